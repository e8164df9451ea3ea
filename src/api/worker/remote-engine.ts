/**
 * An engine in another thread, seen from the other end of a port: its QMP client, its disks, new images, its end.
 *
 * Invariant: when the other end goes, everything that is pending here rejects with EIO, once and for all.
 */
import { asyncDispose } from "../../base/lease.ts";
import { BlockError, blockError } from "../../base/errors.ts";
import { KiB, limits } from "../../base/limits.ts";
import { abortable } from "../../base/signals.ts";
import { QmpClient } from "../../server/monitor/index.ts";
import { type CallOptions, checkCall } from "../node.ts";
import { type CreateImageOptions, type CreateImageSpec, type NewFile, checkCreateOptions } from "../open.ts";
import type { OpenSpec } from "../specs.ts";
import type { GuestDisk } from "../../machine/guest-disk.ts";
import { type GuestDiskOptions, guestOptions } from "../guest.ts";
import { callOptions, optionsOf } from "../options.ts";
import type { DiskCalls, DiskFacts, EngineCalls, GuestCalls, SharedSlots } from "./calls.ts";
import { RemoteGuestDisk, RemoteMachine } from "./guest.ts";
import { PortCaller, type PortLike } from "./port.ts";
import { portConnection } from "./port-connection.ts";
import { RemoteDisk, type RemoteDiskOptions } from "./remote-disk.ts";

const MAX_IN_FLIGHT = 64;

const checkDisk = optionsOf<RemoteDiskOptions & CallOptions>({
  ...callOptions,
  maxInFlight: "Length",
  pieceBytes: "Length",
  shared: "bool",
});
const checkGuest = optionsOf<GuestDiskOptions & CallOptions>({ ...callOptions, ...guestOptions });
const checkResume = optionsOf<{ job?: string; probeMs?: number } & CallOptions>({
  ...callOptions,
  job: "str",
  probeMs: "number",
});

/** How an engine in a worker is reached. Made by connectEngine(), or connectWorker() of the browser entry. */
export class RemoteEngine implements AsyncDisposable {
  /** Runs commands and hears events as over any other connection. */
  readonly qmp: QmpClient;
  readonly #caller: PortCaller<EngineCalls>;
  readonly #callers = new Set<{ end(reason: Error): void }>();
  #machine: Promise<RemoteMachine> | undefined;
  #closed: Promise<void> | undefined;

  private constructor(caller: PortCaller<EngineCalls>, qmp: QmpClient) {
    this.#caller = caller;
    this.qmp = qmp;
    void caller.ended.then((reason) => this.#lost(reason));
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

  /** Resolves with the reason when the engine can't be reached any more. */
  get ended(): Promise<Error> {
    return this.#caller.ended;
  }

  /** Opens a node as openNode() does; File and Blob members cross. It is closed with the disk. */
  open(spec: OpenSpec, options: RemoteDiskOptions & CallOptions = {}): Promise<RemoteDisk> {
    return this.#disk("open", { spec }, options);
  }

  /** A handle on a node that is there, by its name; several may read at once. EIO-class errors cross with their errno. */
  disk(node: string, options: RemoteDiskOptions & CallOptions = {}): Promise<RemoteDisk> {
    return this.#disk("disk", { node }, options);
  }

  /**
   * A node as the disk of a guest, for toV86Disk(): policies and deadline hold in the worker, and STOP and RESUME reach the
   * emulator over QMP. Throws as plugging a device does.
   */
  async guestDisk(node: string, options: GuestDiskOptions & CallOptions = {}): Promise<GuestDisk> {
    checkGuest(options);
    const { signal, ...guest } = options;
    this.#machine ??= RemoteMachine.follow(this.qmp, this.ended);
    const machine = await this.#machine;
    const { port1, port2 } = new MessageChannel();
    const caller = this.#own(new PortCaller<GuestCalls>(port1));
    try {
      const args = { node, options: guest, port: port2 };
      const asked = this.#caller.call("guest", args, { signal, transfer: [port2] });
      return new RemoteGuestDisk(caller, machine, await abortable(asked, signal));
    } catch (error) {
      caller.end(error as Error);
      throw error;
    }
  }

  /** Makes an image; see createImage(). */
  async createImage(spec: CreateImageSpec, options: CreateImageOptions = {}): Promise<void> {
    checkCreateOptions(options);
    const { signal, overwrite = false } = options;
    await abortable(this.#caller.call("createImage", { spec, overwrite }, { signal }), signal);
  }

  /** Removes an image's file; see removeImage(). */
  async removeImage(file: NewFile): Promise<void> {
    await this.#caller.call("removeImage", { file });
  }

  /**
   * Resumes a job whenever an error has paused it, or without a job the machine, as soon as a probe of what failed
   * succeeds; see autoResume() and autoCont(). Resolves when the job is over or `signal` aborts. EINVAL for a bad
   * `probeMs`, CommandError without such a job.
   */
  async autoResume(options: { job?: string; probeMs?: number } & CallOptions = {}): Promise<void> {
    checkResume(options);
    const { job, probeMs, signal } = options;
    await this.#caller.call("autoResume", { job, probeMs }, { signal });
  }

  /** Makes durable what was written through the disks of this connection. */
  async flush(): Promise<void> {
    await this.#caller.call("flush", {});
  }

  /** Cancels the jobs, closes all images and the connection; rejects with the first failed flush. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Gives the engine up, as when its thread has died: all that is pending rejects with `reason`. */
  fail(reason: Error): void {
    this.#caller.end(reason);
  }

  async #close(): Promise<void> {
    try {
      if (!this.#caller.failure) await this.#caller.call("close", {});
    } finally {
      this.fail(new BlockError({ code: "ENOMEDIUM", op: "remote", message: "the engine is closed" }));
    }
  }

  #lost(reason: Error): void {
    for (const caller of this.#callers) caller.end(reason);
    void this.qmp.close();
  }

  /** Ends with the engine. */
  #own<T extends { end(reason: Error): void; ended: Promise<Error> }>(caller: T): T {
    this.#callers.add(caller);
    void caller.ended.then(() => this.#callers.delete(caller));
    return caller;
  }

  async #disk(
    method: "open" | "disk",
    what: { spec: OpenSpec } | { node: string },
    options: RemoteDiskOptions & CallOptions,
  ): Promise<RemoteDisk> {
    checkDisk(options);
    const { maxInFlight = 16, pieceBytes = 256 * KiB, signal } = options;
    checkRange("maxInFlight", maxInFlight, { least: 1, most: MAX_IN_FLIGHT });
    checkRange("pieceBytes", pieceBytes, { least: 512, most: limits.maxRemoteBytes });
    // A page that is not cross-origin isolated has none: it copies.
    const canShare = options.shared && typeof SharedArrayBuffer === "function";
    const shared = canShare ? makeSlots(maxInFlight, pieceBytes) : undefined;
    const { port1, port2 } = new MessageChannel();
    const caller = this.#own(new PortCaller<DiskCalls>(port1));
    try {
      const args = { ...what, port: port2, shared } as EngineCalls["open"]["args"] &
        EngineCalls["disk"]["args"];
      const asked = this.#caller.call(method, args, { signal, transfer: [port2] });
      const facts: DiskFacts = await abortable(asked, signal);
      return new RemoteDisk({ caller, facts, shared, options: { maxInFlight, pieceBytes } });
    } catch (error) {
      caller.end(error as Error);
      throw error;
    }
  }
}

function checkRange(name: string, value: number, { least, most }: { least: number; most: number }): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw blockError("EINVAL", "remote", `${name} must be a whole number, ${least} … ${most}`);
}

function makeSlots(count: number, slotBytes: number): SharedSlots {
  return { buffer: new SharedArrayBuffer(count * slotBytes), slotBytes };
}

/** Reaches the engine that serveEngine() serves at the other end of `port`. */
export function connectEngine(port: PortLike, options: CallOptions = {}): Promise<RemoteEngine> {
  return RemoteEngine.connect(port, options);
}
