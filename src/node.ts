/**
 * The Node entry: the portable library with the Node platform, the file driver and one engine that everybody shares who
 * brings none of their own.
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
import type { DriverType } from "./block/model/contract.ts";
import { portableDrivers } from "./drivers/index.ts";
import { file } from "./drivers/protocol/file.ts";
import type { Engine } from "./machine/engine.ts";
import { sameBytes } from "./platform/node/compare.ts";
import { type NodeHostOptions, nodeHost } from "./platform/node/host.ts";

export * from "./index.ts";
export { type NodeHostOptions, nodeHost } from "./platform/node/host.ts";
export { stdioConnection } from "./platform/node/stdio.ts";

/** How an engine over Node's files is made. */
export interface NodeEngineOptions extends EngineOptions, NodeHostOptions {
  /** Drivers beside Blockwright's own. */
  drivers?: readonly DriverType[];
}

/** An engine over this process's files and sockets. Close it with `await using` or close(). */
export function createEngine(options: NodeEngineOptions = {}): Engine {
  const drivers = [...portableDrivers, file, ...(options.drivers ?? [])];
  return makeEngine({ host: nodeHost(options), drivers, equals: sameBytes }, options);
}

let shared: Engine | undefined;

/** The engine of those who bring none; made when it is first asked for. It lets images open no other files. */
export function defaultEngine(): Engine {
  shared ??= createEngine();
  return shared;
}

/**
 * Opens a node: `await using disk = await openNode({ driver: "qcow2", file: { driver: "file", filename } })`.
 * A backing file is opened only if `gate` allows it: `fileGate("local", nodeHost())` does as qemu-img.
 */
export function openNode(spec: OpenSpec, options: OpenOptions & { engine?: Engine } = {}): Promise<Node> {
  return openNodeIn(options.engine ?? defaultEngine(), spec, options);
}

/** Makes an image; see CreateImageSpec. */
export function createImage(
  spec: CreateImageSpec,
  options: CreateImageOptions & { engine?: Engine } = {},
): Promise<void> {
  return createImageIn(options.engine ?? defaultEngine(), spec, options);
}

/** Removes an image's file; ENOENT, EAGAIN while it is open (opfs). */
export function removeImage(file: NewFile, options: { engine?: Engine } = {}): Promise<void> {
  return removeImageIn(options.engine ?? defaultEngine(), file);
}

/** Checks an image for damage, and repairs it if asked; see CheckOptions. */
export function check(
  spec: OpenSpec,
  options: CheckOptions & { engine?: Engine } = {},
): Promise<CheckReport> {
  return checkIn(options.engine ?? defaultEngine(), spec, options);
}

/** A Blob or File as a read-only node, or the image in it with `format`; see FromBlobOptions. */
export function fromBlob(blob: Blob, options: FromBlobOptions & { engine?: Engine } = {}): Promise<Node> {
  return fromBlobIn(options.engine ?? defaultEngine(), blob, options);
}
