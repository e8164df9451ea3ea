/**
 * What a driver offers that keeps a point-in-time image beside the one it shows (copy-before-write), and how another
 * driver finds out. Source: QEMU's snapshot hooks of BlockDriver.
 */
import type { BlockDriver, BlockStatus } from "./contract.ts";

/** A driver with a snapshot. Ranges are bytes within the node's length. */
export interface SnapshotSource {
  /** Reads the snapshot. EACCES for what does not belong to it (any more). */
  preadSnapshot(offset: number, buffer: Uint8Array): Promise<void>;
  /** Block status of the snapshot; all of it counts as allocated. EACCES as above. */
  snapshotStatus(offset: number, bytes: number): Promise<BlockStatus>;
  /** Takes whole clusters of the range out of the snapshot. */
  discardSnapshot(offset: number, bytes: number): Promise<void>;
}

/** Whether a driver keeps a snapshot. */
export function hasSnapshot(driver: BlockDriver): driver is BlockDriver & SnapshotSource {
  return "preadSnapshot" in driver;
}
