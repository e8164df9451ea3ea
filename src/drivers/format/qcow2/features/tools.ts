/**
 * What a bundle may leave out of the driver: check and repair, encryption, internal snapshots, persistent bitmaps (checked.ts
 * brings them).
 */
import type { EncryptionSupport } from "../data/encryption.ts";
import type { Image, ImageRepair } from "../metadata/image.ts";
import type { Qcow2Bitmaps } from "./bitmaps.ts";
import type { Qcow2Snapshots } from "./snapshots.ts";

/** What a check of an open image found. */
export interface CheckResult {
  /** What can destroy data, in words; at most 100 of them. */
  readonly corruptions: readonly string[];
  /** Clusters that are counted but not used. */
  readonly leaks: number;
}

/** Check, repair, snapshots and bitmaps of open images, which not every bundle has. */
export interface ImageTools extends ImageRepair {
  check(image: Image): Promise<CheckResult>;
  /** Opens and makes encrypted images. */
  readonly encryption: EncryptionSupport;
  /** Reads the table of internal snapshots. */
  snapshots(image: Image): Promise<Qcow2Snapshots>;
  /** The persistent bitmaps, which are yet to be read. */
  bitmaps(image: Image): Qcow2Bitmaps;
}
