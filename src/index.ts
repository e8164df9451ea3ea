/**
 * The portable entry: what runs in Node and in browsers alike, over a Host that the caller brings. The entries `./node`
 * and `./browser` bring their platform's.
 */
import { type EngineOptions, makeEngine } from "./api/engine.ts";
import { portableLibrary } from "./api/library.ts";
import type { Host } from "./base/host.ts";
import type { DriverType } from "./block/model/contract.ts";
import { portableDrivers } from "./drivers/index.ts";
import type { Engine } from "./machine/engine.ts";

export * from "./api/index.ts";
export { portableDrivers } from "./drivers/index.ts";
export { file as fileDriver } from "./drivers/protocol/file.ts";
export { version } from "./version.ts";

/** How a portable engine is made. */
export interface PortableEngineOptions extends EngineOptions {
  host: Host;
  /** Drivers beside portableDrivers (fileDriver for a host that has files). */
  drivers?: readonly DriverType[];
}

/** An engine over the caller's Host. Close it with `await using` or close(). */
export function createEngine(options: PortableEngineOptions): Engine {
  const drivers = [...portableDrivers, ...(options.drivers ?? [])];
  return makeEngine({ host: options.host, drivers }, options);
}

/** The functions on images, which all take `{ engine }`. */
export const {
  openNode,
  createImage,
  removeImage,
  probe,
  check,
  importImage,
  listImages,
  fromBlob,
  resumeJob,
} = portableLibrary;
