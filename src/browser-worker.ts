/**
 * Reaching an engine in a dedicated worker from a page. A file of its own that only `./browser` imports: the URL of the
 * worker's script is relative to the entry's.
 *
 * Invariants: a worker that was started here ends with its connection; when a worker fails, everything that is pending
 * rejects. A page that is left says so, so that images are closed as far as the browser leaves time for it, and a page
 * that is hidden has its disks flushed, since it may never be shown again.
 */
import type { CallOptions } from "./api/node.ts";
import { callOptions, optionsOf } from "./api/options.ts";
import type { ConnectMessage } from "./api/worker/connect.ts";
import { goneError } from "./api/worker/port.ts";
import { type RemoteEngine, connectEngine } from "./api/worker/remote-engine.ts";
import { onAbort } from "./base/signals.ts";
import { plainBrowserHost } from "./platform/browser/host.ts";
import { watchAlive } from "./platform/browser/liveness.ts";

/** Options of connectWorker(). */
export interface ConnectWorkerOptions extends CallOptions {
  /**
   * Starts the worker; for bundlers and content security policies that want the script's URL spelt out. The script is
   * `blockwright/worker`, or one that imports it. Default: worker.js beside this entry.
   */
  createWorker?: () => Worker;
  /** Flushes the disks when the page is hidden. Default true. */
  flushWhenHidden?: boolean;
}

const checkOptions = optionsOf<ConnectWorkerOptions>({
  ...callOptions,
  createWorker: "Function",
  flushWhenHidden: "bool",
});

function startWorker(): Worker {
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "blockwright" });
}

/**
 * Connects to an engine: in a new worker, in one that the caller has started (its script imports `blockwright/worker`), or
 * at the other end of a port that serveEngine() serves. Rejects if the worker does not start, or with the signal's reason.
 */
export async function connectWorker(
  target?: Worker | MessagePort,
  options: ConnectWorkerOptions = {},
): Promise<RemoteEngine> {
  checkOptions(options);
  const { signal, flushWhenHidden = true, createWorker = startWorker } = options;
  const { random } = plainBrowserHost();
  signal?.throwIfAborted();
  const own = target === undefined ? createWorker() : undefined;
  const worker = own ?? target!;
  const failed = new AbortController();
  const fail = (event: Event): void => {
    const words = (event as ErrorEvent).message;
    failed.abort(goneError(words ? `the worker has failed: ${words}` : "the worker could not be started"));
  };
  const abort = (): void => failed.abort(signal?.reason);
  worker.addEventListener("error", fail);
  const forget = onAbort(signal, abort);
  try {
    const lock = `blockwright-worker-${random.below(2 ** 32)}-${random.below(2 ** 32)}`;
    const port = "start" in worker ? worker : portOf(worker, lock);
    const engine = await connectEngine(port, { signal: failed.signal });
    failed.signal.addEventListener("abort", () => engine.fail(failed.signal.reason as Error), { once: true });
    const leave = followPage(engine, flushWhenHidden);
    const over = new AbortController();
    if (port !== worker) watchAlive(lock, over.signal, () => engine.fail(goneError("the worker has gone")));
    void engine.ended.then(() => {
      over.abort();
      worker.removeEventListener("error", fail);
      leave();
      own?.terminate();
    });
    return engine;
  } catch (error) {
    worker.removeEventListener("error", fail);
    own?.terminate();
    throw error;
  } finally {
    forget();
  }
}

/** A port whose other end the worker has. */
function portOf(worker: Worker, lock: string): MessagePort {
  const { port1, port2 } = new MessageChannel();
  worker.postMessage({ blockwright: "connect", port: port2, lock } satisfies ConnectMessage, [port2]);
  return port1;
}

/** Tells the engine when the page is hidden or left; the function ends that. */
function followPage(engine: RemoteEngine, flushWhenHidden: boolean): () => void {
  if (typeof document === "undefined") return () => undefined;
  const flush = (): void => {
    // The outcome is the next flush's too.
    if (document.visibilityState === "hidden" && flushWhenHidden) engine.flush().catch(() => undefined);
  };
  const left = (event: PageTransitionEvent): void => {
    // A page in the back/forward cache comes back with its worker.
    if (!event.persisted) engine.fail(goneError("the page was left"));
  };
  document.addEventListener("visibilitychange", flush);
  addEventListener("pagehide", left);
  return () => {
    document.removeEventListener("visibilitychange", flush);
    removeEventListener("pagehide", left);
  };
}
