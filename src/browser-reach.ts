/**
 * Reaching what a dedicated worker serves from a page.
 *
 * Invariants: a worker that was started here ends with its connection; when a worker fails, everything that is pending
 * rejects. A page that is left says so, so that images are closed as far as the browser leaves time for it, and a page
 * that is hidden has its disks flushed, since it may never be shown again.
 */
import type { CallOptions } from "./api/node.ts";
import { optionsOf } from "./api/options.ts";
import type { ConnectMessage } from "./api/worker/connect.ts";
import { goneError, type PortLike } from "./api/worker/port.ts";
import type { WorkerEngine } from "./api/worker/worker-engine.ts";
import { blockError } from "./base/errors.ts";
import { onAbort } from "./base/signals.ts";
import { randomBelow } from "./platform/browser/host.ts";
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
  /**
   * Size of the I/O arena of the engine that the worker makes, bytes; default 64 MiB (16 for openGuestDisk()). It bounds the data that all
   * jobs have in flight. An engine that is there already has its own: EINVAL at a port, no effect where serveWorker() was given one.
   */
  arenaBytes?: number;
}

/** Throws CommandError for what are no options of connectWorker(). */
export const checkConnect = /* @__PURE__ */ optionsOf<ConnectWorkerOptions>({
  signal: "Signal",
  createWorker: "Function",
  flushWhenHidden: "bool",
  arenaBytes: "Length",
});

/**
 * Connects by `connect` to what a new worker serves, one that the caller has started, or the other end of a port. Rejects if
 * the worker does not start, or with the signal's reason.
 */
export async function reachWorker<E extends WorkerEngine>(
  target: Worker | MessagePort | undefined,
  options: ConnectWorkerOptions & { createWorker: () => Worker },
  connect: (port: PortLike, options: CallOptions) => Promise<E>,
): Promise<E> {
  const { signal, flushWhenHidden = true, createWorker, arenaBytes } = options;
  signal?.throwIfAborted();
  if (arenaBytes !== undefined && target !== undefined && "start" in target)
    throw blockError(
      "EINVAL",
      "remote",
      "arenaBytes is of the engine that a worker makes: behind a port is one",
    );
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
    const lock = `blockwright-worker-${randomBelow(2 ** 32)}-${randomBelow(2 ** 32)}`;
    const port =
      "start" in worker
        ? worker
        : portOf(worker, { lock, ...(arenaBytes === undefined ? {} : { arenaBytes }) });
    const engine = await connect(port, { signal: failed.signal });
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
function portOf(worker: Worker, asked: Omit<ConnectMessage, "blockwright" | "port">): MessagePort {
  const { port1, port2 } = new MessageChannel();
  worker.postMessage({ blockwright: "connect", port: port2, ...asked } satisfies ConnectMessage, [port2]);
  return port1;
}

/** Tells the engine when the page is hidden or left; the function ends that. */
function followPage(engine: WorkerEngine, flushWhenHidden: boolean): () => void {
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
