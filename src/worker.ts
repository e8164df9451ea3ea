/**
 * The worker entry. Loaded as a module worker's script it waits for connectWorker() of a page, and then runs an engine with
 * the browser's drivers for it. Imported into a worker of one's own it does the same, with the engine given to
 * serveWorker(); or serveEngine() serves any port by hand, and pages are not listened to unless they call.
 *
 * Invariant: nothing is made before a page connects; each connection has an engine of its own unless one was given.
 */
import { serveEngine } from "./api/worker/serve.ts";
import { type ServeEngineOptions, checkServeOptions } from "./api/worker/service.ts";
import { servePages } from "./browser-serve.ts";
import { createEngine } from "./browser-engine.ts";
import type { Engine } from "./machine/engine.ts";

export { type BrowserEngineOptions, createEngine } from "./browser-engine.ts";
export { serveEngine } from "./api/worker/serve.ts";
export type { ServeEngineOptions } from "./api/worker/service.ts";

let given: { engine: Engine; options: ServeEngineOptions } | undefined;

/**
 * Lets pages that connectWorker() to this worker reach `engine`, which stays the caller's: it is kept open when they go,
 * unless `keepEngine` is false. To be called before the worker's script has ended its first turn.
 */
export function serveWorker(engine: Engine, options: ServeEngineOptions = {}): void {
  checkServeOptions(options);
  given = { engine, options: { keepEngine: true, ...options } };
}

servePages(async (port, onFault, asked) => {
  const { engine, options } = given ?? { engine: createEngine(asked), options: {} };
  await serveEngine(port, engine, { onFault, ...options });
});
