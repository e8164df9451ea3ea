/**
 * An engine in another thread with its QMP client. Invariant: when the other end goes, everything that is pending here
 * rejects with EIO, once and for all.
 */
import { asyncDispose } from "../../base/lease.ts";
import { QmpClient } from "../../server/monitor/index.ts";
import { type CallOptions, checkCall } from "../node.ts";
import type { EngineCalls } from "./calls.ts";
import type { RunControl } from "./guest.ts";
import { PortCaller, type PortLike } from "./port.ts";
import { portConnection } from "./port-connection.ts";
import { WorkerEngine } from "./worker-engine.ts";

/** How an engine in a worker is reached. Made by connectEngine(), or connectWorker() of the browser entry. */
export class RemoteEngine extends WorkerEngine implements AsyncDisposable {
  /** Runs commands and hears events as over any other connection. */
  readonly qmp: QmpClient;

  private constructor(caller: PortCaller<EngineCalls>, qmp: QmpClient) {
    super(caller);
    this.qmp = qmp;
    void caller.ended.then(() => qmp.close());
  }

  /** Waits for the other end's QMP greeting. Rejects with the signal's reason, or if the other end has gone. */
  static async connect(port: PortLike, options: CallOptions = {}): Promise<RemoteEngine> {
    checkCall(options);
    const { signal } = options;
    const caller = new PortCaller<EngineCalls>(port);
    const { port1, port2 } = new MessageChannel();
    const gone = caller.ended.then((reason) => Promise.reject(reason));
    try {
      caller.call("monitor", { port: port2 }, { transfer: [port2] }).catch(() => undefined);
      const greeted = QmpClient.connect(portConnection(port1), signal ? { signal } : {});
      return new RemoteEngine(caller, await Promise.race([greeted, gone]));
    } catch (error) {
      port1.close();
      caller.end(error as Error);
      throw error;
    }
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  /** By QMP: its events come in order with those that its user listens to. */
  protected override runControl(): RunControl {
    const { qmp } = this;
    return {
      follow(each) {
        qmp.on("STOP", () => each(false));
        qmp.on("RESUME", () => each(true));
      },
      running: async () => (await qmp.execute("query-status")).running,
      stop: () => qmp.execute("stop"),
      cont: () => qmp.execute("cont"),
    };
  }
}

/** Reaches the engine that serveEngine() serves at the other end of `port`. */
export function connectEngine(port: PortLike, options: CallOptions = {}): Promise<RemoteEngine> {
  return RemoteEngine.connect(port, options);
}
