/**
 * What the browser says of its storage: how much an origin may keep, and whether it may be cleared without asking.
 * Source: the WHATWG Storage standard.
 */

/** The storage of this page's origin. */
export interface StorageStatus {
  /** Bytes in use, roughly; undefined where the browser does not tell. */
  usageBytes: number | undefined;
  /** Bytes that may be used, roughly: no promise that they are free. */
  quotaBytes: number | undefined;
  /** The browser does not clear it by itself when room gets scarce. */
  isPersistent: boolean;
}

/** The storage manager; plain HTTP from another machine has none. */
function manager(): StorageManager | undefined {
  return (navigator as { storage?: StorageManager }).storage;
}

/** How full the origin's storage is, in pages and workers. */
export async function storageStatus(): Promise<StorageStatus> {
  const storage = manager();
  const [estimate, isPersistent] = await Promise.all([storage?.estimate(), storage?.persisted()]);
  return {
    usageBytes: estimate?.usage,
    quotaBytes: estimate?.quota,
    isPersistent: isPersistent ?? false,
  };
}

/** Asks that the storage be kept until the user clears it; the browser may ask the user. Pages only: false in workers. */
export async function persistStorage(): Promise<boolean> {
  const storage = manager();
  if (typeof storage?.persist !== "function") return false;
  return storage.persist();
}

/** Bytes that the origin may still store; undefined where the browser does not tell. */
export async function roomBytes(): Promise<number | undefined> {
  const estimate = await manager()?.estimate();
  if (estimate?.quota === undefined || estimate.usage === undefined) return undefined;
  return Math.max(0, estimate.quota - estimate.usage);
}
