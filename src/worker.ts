/**
 * The worker entry. Loaded as a module worker's script it waits for connectWorker() of a page, and then runs an engine with
 * the browser's drivers for it. Imported into a worker of one's own it does the same, with the engine given to
 * serveWorker(); or serveEngine() serves any port by hand, and pages are not listened to unless they call.
 *
 * Invariant: nothing is made before a page connects; each connection has an engine of its own unless one was given.
 */
import { type ConnectMessage, isConnectMessage } from "./api/worker/connect.ts";
import { dataOf } from "./api/worker/port.ts";
import { type ServeEngineOptions, checkServeOptions, serveEngine } from "./api/worker/serve.ts";
import { createEngine } from "./browser-engine.ts";
import type { Engine } from "./machine/engine.ts";
import { holdAlive } from "./platform/browser/liveness.ts";

export { type BrowserEngineOptions, createEngine } from "./browser-engine.ts";
export { type ServeEngineOptions, serveEngine } from "./api/worker/serve.ts";

let given: { engine: Engine; options: ServeEngineOptions } | undefined;

/**
 * Lets pages that connectWorker() to this worker reach `engine`, which stays the caller's: it is kept open when they go,
 * unless `keepEngine` is false. To be called before the worker's script has ended its first turn.
 */
export function serveWorker(engine: Engine, options: ServeEngineOptions = {}): void {
  checkServeOptions(options);
  given = { engine, options: { keepEngine: true, ...options } };
}

/** Faults that nobody waits for reach the page as the worker's error event. */
function onFault(error: unknown): void {
  reportError(error);
}

async function serve({ port, lock }: ConnectMessage): Promise<void> {
  // The page waits for the lock as soon as it hears from us.
  const release = await holdAlive(lock);
  const { engine, options } = given ?? { engine: createEngine(), options: {} };
  await serveEngine(port, engine, { onFault, ...options }).finally(release);
}

function accept(event: Event): void {
  const message = dataOf(event);
  if (isConnectMessage(message)) serve(message).catch(onFault);
}

const isDedicatedWorker =
  typeof (globalThis as { DedicatedWorkerGlobalScope?: unknown }).DedicatedWorkerGlobalScope === "function";
if (isDedicatedWorker) globalThis.addEventListener("message", accept);
