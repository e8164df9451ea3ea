/**
 * Reaching an engine in a dedicated worker from a page, with its QMP client. A file of its own that only `./browser` imports:
 * the URL of the worker's script is relative to the entry's.
 */
import { type RemoteEngine, connectEngine } from "./api/worker/remote-engine.ts";
import { checkConnect, type ConnectWorkerOptions, reachWorker } from "./browser-reach.ts";

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
  checkConnect(options);
  return reachWorker(target, { createWorker: startWorker, ...options }, connectEngine);
}
