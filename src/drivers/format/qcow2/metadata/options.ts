/** The runtime options of a qcow2 node (QAPI BlockdevOptionsQcow2), checked. Sources: QAPI; messages as QEMU 7.2. */
import { CommandError } from "../../../../base/errors.ts";
import { KiB, MiB } from "../../../../base/limits.ts";
import { alignUp } from "../../../../base/ranges.ts";
import type { NodeSpec } from "../../../../block/model/contract.ts";
import { type Geometry, isPowerOfTwoBetween } from "../disk/layout.ts";

/** Why clusters are freed; decides whether the file is told. */
export type FreeReason = "request" | "snapshot" | "other" | "always" | "never";

/** The options in force. */
export interface Qcow2Options {
  /** Which freed clusters are discarded in the file too. */
  readonly passDiscard: Readonly<Record<FreeReason, boolean>>;
  /** Clusters that are discarded or made zero stay the image's, for the next write to the same place. */
  readonly keepsDiscarded: boolean;
  readonly overlapCheck: boolean;
  /** Instead of what the header says. */
  readonly lazyRefcounts: boolean | undefined;
  /** The image counts as made over the backing file as it is, whichever version it was made over. */
  readonly acceptsChangedBacking: boolean;
  /** What is written to is noted in the image for its dirty bitmaps (features/bitmap-journal.ts). */
  readonly bitmapJournal: boolean;
  /** Bytes of L2 tables and refcount blocks kept in memory. */
  readonly l2CacheBytes: number;
  readonly refcountCacheBytes: number;
}

/** QEMU's default for the L2 cache on Linux: enough for 256 GiB at 64 KiB clusters. */
const DEFAULT_L2_CACHE = 32 * MiB;
const MIN_TABLES = 4;
const MAX_TABLES = 2 ** 31 - 1;
/** Seconds. */
const MAX_CLEAN_INTERVAL = 2 ** 32 - 1;

function number(spec: NodeSpec, name: string): number | undefined {
  const value = spec[name];
  return typeof value === "number" ? value : undefined;
}

function boolean<F>(spec: NodeSpec, name: string, fallback: F): boolean | F {
  const value = spec[name];
  return typeof value === "boolean" ? value : fallback;
}

function cacheSizes(spec: NodeSpec, geometry: Geometry, size: number): { l2: number; refcount: number } {
  const total = number(spec, "cache-size");
  let l2 = number(spec, "l2-cache-size");
  let refcount = number(spec, "refcount-cache-size");
  const entry = number(spec, "l2-cache-entry-size");
  if (total !== undefined) {
    if (l2 !== undefined && refcount !== undefined) {
      throw new CommandError(
        "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time",
      );
    }
    if (l2 !== undefined && l2 > total) throw new CommandError("l2-cache-size may not exceed cache-size");
    if (refcount !== undefined && refcount > total) {
      throw new CommandError("refcount-cache-size may not exceed cache-size");
    }
  }
  if (entry !== undefined && !isPowerOfTwoBetween(entry, 512, geometry.clusterSize)) {
    const limit = `between 512 and the cluster size (${geometry.clusterSize})`;
    throw new CommandError(`L2 cache entry size must be a power of two ${limit}`);
  }
  const tables = Math.max(1, Math.ceil(size / geometry.clusterSize)) * geometry.entryBytes;
  checkTableCounts(spec, geometry, alignUp(tables, geometry.clusterSize));
  const minRefcount = MIN_TABLES * geometry.clusterSize;
  refcount ??= total === undefined || l2 === undefined ? minRefcount : total - l2;
  l2 ??= total === undefined ? Math.min(DEFAULT_L2_CACHE, tables) : Math.max(0, total - refcount);
  return { l2, refcount };
}

/** Throws for caches of more tables than QEMU can count; `most` are the bytes of all L2 tables, which an L2 cache is cut to. */
function checkTableCounts(spec: NodeSpec, { clusterSize }: Geometry, most: number): void {
  const total = number(spec, "cache-size") ?? 0;
  const given = number(spec, "refcount-cache-size");
  const l2 = given === undefined ? 0 : total - given;
  const refcount = given ?? total - Math.min(most, number(spec, "l2-cache-size") ?? most);
  const l2Entry = number(spec, "l2-cache-entry-size") ?? Math.min(64 * KiB, clusterSize);
  if (Math.floor(l2 / l2Entry) > MAX_TABLES) throw new CommandError("L2 cache size too big");
  if (Math.floor(refcount / clusterSize) > MAX_TABLES) throw new CommandError("Refcount cache size too big");
}

/** Checks and completes the options. `size` is the virtual size; `discard` the node's own setting, `journal` whether bitmaps have one where nothing is said. */
export function parseOptions(
  spec: NodeSpec,
  image: { geometry: Geometry; size: number; version: 2 | 3; discard: boolean; journal: boolean },
): Qcow2Options {
  const { l2, refcount } = cacheSizes(spec, image.geometry, image.size);
  const seconds = number(spec, "cache-clean-interval") ?? 0;
  // QEMU counts in 32 bits, and reads a negative number as one near 2^64.
  if (seconds < 0 || seconds > MAX_CLEAN_INTERVAL) throw new CommandError("Cache clean interval too big");
  if (spec["lazy-refcounts"] === true && image.version < 3) {
    const words = "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level";
    throw new CommandError(words);
  }
  if (spec["discard-no-unref"] === true && image.version < 3)
    throw new CommandError("discard-no-unref is only supported since qcow2 version 3");
  const overlap = spec["overlap-check"];
  const template =
    typeof overlap === "object" && overlap !== null && "template" in overlap ? overlap.template : overlap;
  return {
    passDiscard: {
      always: true,
      never: false,
      request: boolean(spec, "pass-discard-request", image.discard),
      snapshot: boolean(spec, "pass-discard-snapshot", true),
      other: boolean(spec, "pass-discard-other", false),
    },
    keepsDiscarded: boolean(spec, "discard-no-unref", false),
    overlapCheck: template !== "none",
    lazyRefcounts: boolean(spec, "lazy-refcounts", undefined),
    acceptsChangedBacking: spec["changed-backing"] === "accept",
    bitmapJournal: boolean(spec, "bitmap-journal", image.journal),
    l2CacheBytes: Math.max(l2, 64 * KiB),
    refcountCacheBytes: refcount,
  };
}
