/**
 * The browser entry: the portable library with the browser's clock, randomness and codecs, and one engine that everybody
 * shares who brings none of their own. Disks live in memory or behind drivers of the caller's.
 */
import { type FromBlobOptions, fromBlobIn } from "./api/blob.ts";
import { type CheckOptions, type CheckReport, checkIn } from "./api/check.ts";
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
import { createEngine } from "./browser-engine.ts";
import type { Engine } from "./machine/engine.ts";

export * from "./index.ts";
export { type BrowserEngineOptions, createEngine } from "./browser-engine.ts";
export { type ConnectWorkerOptions, connectWorker } from "./browser-worker.ts";
export { type StorageStatus, persistStorage, storageStatus } from "./platform/browser/storage.ts";
export { browserHost } from "./platform/browser/host.ts";

let shared: Engine | undefined;

/** The engine of those who bring none; made when it is first asked for. */
export function defaultEngine(): Engine {
  shared ??= createEngine();
  return shared;
}

/** Opens a node, as in `await using disk = await openNode({ driver: "memory", buffer })`. */
export function openNode(spec: OpenSpec, options: OpenOptions & { engine?: Engine } = {}): Promise<Node> {
  return openNodeIn(options.engine ?? defaultEngine(), spec, options);
}

/** Makes an image in an open node; see CreateImageSpec. */
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
