/**
 * The browser entry: the portable library with the browser's clock, randomness and codecs, and one engine that everybody
 * shares who brings none of their own. Disks live in memory or behind drivers of the caller's.
 */
import { libraryOver, sharedEngine } from "./api/library.ts";
import { createEngine } from "./browser-engine.ts";

export * from "./index.ts";
export { type BrowserEngineOptions, createEngine } from "./browser-engine.ts";
export { type PageDiskOptions, PageGuestDisk, openGuestDisk } from "./browser-guest-disk.ts";
export type { ConnectWorkerOptions } from "./browser-reach.ts";
export { connectWorker } from "./browser-worker.ts";
export { type StorageStatus, persistStorage, storageStatus } from "./platform/browser/storage.ts";
export { browserHost } from "./platform/browser/host.ts";

/** The engine of those who bring none; made when it is first asked for. */
export const defaultEngine = sharedEngine(() => createEngine());

/** The functions on images, in the engine of `options.engine` or the default one. */
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
} = libraryOver(defaultEngine);
