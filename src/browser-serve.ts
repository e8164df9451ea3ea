/**
 * The script of a worker that pages connect to: it waits for their messages and serves each connection. A file of its own,
 * since the entries `./worker` and `./guest-worker` share it.
 *
 * Invariant: nothing is made before a page connects.
 */
import { type ConnectMessage, isConnectMessage } from "./api/worker/connect.ts";
import { type PortLike, dataOf } from "./api/worker/port.ts";
import { holdAlive } from "./platform/browser/liveness.ts";

/** Faults that nobody waits for reach the page as the worker's error event. */
function onFault(error: unknown): void {
  reportError(error);
}

/** What a page asks of the engine that is made for it. */
export interface AskedEngine {
  arenaBytes?: number;
}

/** Calls `serve` for each page that connects, where this is a dedicated worker. */
export function servePages(
  serve: (port: PortLike, onFault: (error: unknown) => void, asked: AskedEngine) => Promise<void>,
): void {
  const isDedicatedWorker =
    typeof (globalThis as { DedicatedWorkerGlobalScope?: unknown }).DedicatedWorkerGlobalScope === "function";
  if (!isDedicatedWorker) return;
  const accept = async ({ port, lock, arenaBytes }: ConnectMessage): Promise<void> => {
    // The page waits for the lock as soon as it hears from us.
    const release = await holdAlive(lock);
    const asked = arenaBytes === undefined ? {} : { arenaBytes };
    await serve(port, onFault, asked).finally(release);
  };
  globalThis.addEventListener("message", (event) => {
    const message = dataOf(event);
    if (isConnectMessage(message)) accept(message).catch(onFault);
  });
}
