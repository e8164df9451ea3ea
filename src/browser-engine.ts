/**
 * The composition of an engine for pages and workers: the browser's Host and the drivers that fit it. A file of its own,
 * since the entries `./browser` and `./worker` share it.
 */
import { type EngineOptions, makeEngine } from "./api/engine.ts";
import type { DriverType } from "./block/model/contract.ts";
import { portableDrivers } from "./drivers/index.ts";
import { indexedDb } from "./drivers/protocol/indexeddb.ts";
import { webNbdBy } from "./drivers/protocol/nbd/web.ts";
import { opfs } from "./drivers/protocol/opfs/index.ts";
import type { Engine } from "./machine/engine.ts";
import { browserHost } from "./platform/browser/host.ts";

/** What talks to servers is loaded with the first of such disks. */
const nbd = webNbdBy(async (context, spec) =>
  (await import("./browser-nbd.ts")).openNbdFromPage(context, spec),
);

/** How an engine of a page or worker is made. */
export interface BrowserEngineOptions extends EngineOptions {
  /** Drivers beside Blockwright's own. */
  drivers?: readonly DriverType[];
}

/** An engine over the browser's Host. Close it with `await using` or close(). */
export function createEngine(options: BrowserEngineOptions = {}): Engine {
  const drivers = [...portableDrivers, opfs, indexedDb, nbd, ...(options.drivers ?? [])];
  return makeEngine({ host: browserHost(), drivers }, options);
}
