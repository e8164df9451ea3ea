/**
 * The portable entry: what runs in Node and in browsers alike, over a Host that the caller brings. The entries `./node`
 * and `./browser` bring their platform's.
 */
import { type FromBlobOptions, fromBlobIn } from "./api/blob.ts";
import { type CheckOptions, type CheckReport, checkIn } from "./api/check.ts";
import { type EngineOptions, makeEngine } from "./api/engine.ts";
import type { Node } from "./api/node.ts";
import {
  type CreateImageOptions,
  type CreateImageSpec,
  type NewFile,
  type OpenOptions,
  type OpenSpec,
  createImageIn,
  openNodeIn,
  removeImageIn,
} from "./api/open.ts";
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

/** Opens a node in an engine. See OpenSpec for the description, OpenOptions for the gate. */
export function openNode(spec: OpenSpec, options: OpenOptions & { engine: Engine }): Promise<Node> {
  return openNodeIn(options.engine, spec, options);
}

/** Makes an image; see CreateImageSpec. */
export function createImage(
  spec: CreateImageSpec,
  options: CreateImageOptions & { engine: Engine },
): Promise<void> {
  return createImageIn(options.engine, spec, options);
}

/** Removes an image's file; ENOENT, EAGAIN while it is open (opfs). */
export function removeImage(file: NewFile, options: { engine: Engine }): Promise<void> {
  return removeImageIn(options.engine, file);
}

/** Checks an image for damage, and repairs it if asked; see CheckOptions. */
export function check(spec: OpenSpec, options: CheckOptions & { engine: Engine }): Promise<CheckReport> {
  return checkIn(options.engine, spec, options);
}

/** A Blob or File as a read-only node, or the image in it with `format`; see FromBlobOptions. */
export function fromBlob(blob: Blob, options: FromBlobOptions & { engine: Engine }): Promise<Node> {
  return fromBlobIn(options.engine, blob, options);
}
