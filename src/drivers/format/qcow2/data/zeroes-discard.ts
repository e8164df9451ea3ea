/**
 * Writing zeroes and discarding: changes of L2 entries only. Whole clusters; the edges of a request go back to the layer
 * with ENOTSUP, which then writes zeroes, unless the rest of their cluster reads as zeroes already.
 * Source: qcow2.txt, "Standard Cluster Descriptor"; behaviour of QEMU 7.2.
 */
import { assert } from "../../../../base/assert.ts";
import { blockError } from "../../../../base/errors.ts";
import { blockStatusAbove } from "../../../../block/io/status.ts";
import { nodeOf } from "../../../../block/model/node.ts";
import { Req, type RequestFlags } from "../../../../block/model/contract.ts";
import { discardData, zeroRawData } from "./data-file.ts";
import { free } from "../metadata/allocate.ts";
import { freeCompressed } from "./compressed.ts";
import type { Image } from "../metadata/image.ts";
import { COPIED_HIGH, entryKind, entryOffset, Kind, ZERO_LOW } from "../disk/layout.ts";
import { entryPlace, findExtent, loadSlice, sliceReach, writableSlice } from "../metadata/mapping.ts";
import type { CachedTable } from "../metadata/metadata-cache.ts";
import type { FreeReason } from "../metadata/options.ts";
import { ALL, readExtended, subclusterMask, writeBits } from "../metadata/subclusters.ts";
import { makeRoom, withRoom } from "../metadata/write-back.ts";

/** What becomes of an L2 entry. */
type Change =
  /** Reads as zeroes; `unmap` also frees the cluster. */
  | { readonly to: "zero"; readonly unmap: boolean; readonly reason?: undefined }
  /** As if it had never been written: zeroes, or (full) whatever the backing file holds. */
  | { readonly to: "discard"; readonly full: boolean; readonly reason: FreeReason };

/** Makes the range read as zeroes. Errors: ENOTSUP where only a write can do it. */
export async function writeZeroes(
  image: Image,
  offset: number,
  bytes: number,
  flags: RequestFlags,
): Promise<void> {
  image.checkAlive();
  const { clusterSize, subclusterSize } = image.geometry;
  const unmap = (flags & Req.mayUnmap) !== 0;
  const canUnmapV2 = unmap && !image.node.backing;
  if (image.header.version < 3 && !canUnmapV2) throw blockError("ENOTSUP", "pwriteZeroes");
  const from = offset - (offset % subclusterSize);
  const end = offset + bytes;
  const to = Math.ceil(end / subclusterSize) * subclusterSize;
  const first = from - (from % clusterSize);
  const claim = await image.claims.exclusive(first, Math.ceil(to / clusterSize) * clusterSize - first);
  try {
    if (from < offset) await checkEdge(image, from, { from, to: offset });
    if (end < to && end < image.size) await checkEdge(image, to - subclusterSize, { from: end, to });
    if (from % clusterSize !== 0) await checkPart(image, from);
    if (to % clusterSize !== 0) await checkPart(image, to);
    await zeroRawData(image, { from, to, flags });
    const change: Change =
      image.header.version < 3 ? { to: "discard", full: false, reason: "request" } : { to: "zero", unmap };
    await changeEntries(image, { from, to, change });
  } finally {
    image.claims.end(claim);
  }
}

/** Throws ENOTSUP for a part of a compressed cluster, which has no subclusters. */
async function checkPart(image: Image, guest: number): Promise<void> {
  const { kind } = await findExtent(image, guest, 1);
  if (kind === Kind.compressed) throw blockError("ENOTSUP", "pwriteZeroes");
}

/**
 * Throws ENOTSUP unless `rest`, what the request leaves of the cluster (or subcluster) at `cluster`, reads as zeroes too, so
 * that making all of it zero changes nothing outside the request.
 */
async function checkEdge(image: Image, cluster: number, rest: { from: number; to: number }): Promise<void> {
  const { kind } = await findExtent(image, cluster, image.geometry.subclusterSize);
  if (kind === Kind.zeroPlain || kind === Kind.zeroAllocated) return;
  const isUnallocated = kind === Kind.unallocated || kind === Kind.reserved;
  if (isUnallocated && (await isZeroBelow(image, rest.from, Math.min(rest.to, image.size)))) return;
  throw blockError("ENOTSUP", "pwriteZeroes");
}

/** Whether the backing chain is known to read as zeroes there. */
async function isZeroBelow(image: Image, from: number, to: number): Promise<boolean> {
  const { backing } = image.node;
  if (!backing) return true;
  for (let at = from; at < Math.min(to, backing.length);) {
    const status = await blockStatusAbove(nodeOf(backing.node), at, to - at);
    if (!status.zero) return false;
    at += status.bytes;
  }
  return true;
}

/** Drops whole clusters within the range; a part of one is left as it is (ENOTSUP). */
export async function discard(image: Image, offset: number, bytes: number): Promise<void> {
  image.checkAlive();
  const { clusterSize } = image.geometry;
  if (image.header.version < 3 && image.node.backing) throw blockError("ENOTSUP", "pdiscard");
  const end = offset + bytes;
  const to = Math.ceil(end / clusterSize) * clusterSize;
  if (offset % clusterSize !== 0 || (end !== to && end !== image.size))
    throw blockError("ENOTSUP", "pdiscard");
  const claim = await image.claims.exclusive(offset, to - offset);
  try {
    await zeroRawData(image, { from: offset, to, flags: Req.mayUnmap });
    await changeEntries(image, {
      from: offset,
      to,
      change: { to: "discard", full: false, reason: "request" },
    });
  } finally {
    image.claims.end(claim);
  }
}

/** Drops the range for good: it becomes unallocated, as if never written. The caller holds an exclusive claim. */
export function discardFully(
  image: Image,
  { from, to }: { from: number; to: number },
  reason: FreeReason = "never",
): Promise<void> {
  return changeEntries(image, { from, to, change: { to: "discard", full: true, reason } });
}

/** Drops everything that the image itself holds; its backing file shows through, and the room is given back to the file. */
export async function makeEmpty(image: Image): Promise<void> {
  image.checkAlive();
  const to = Math.ceil(image.size / image.geometry.clusterSize) * image.geometry.clusterSize;
  const claim = await image.claims.exclusive(0, to);
  try {
    await changeEntries(image, { from: 0, to, change: { to: "discard", full: true, reason: "snapshot" } });
  } finally {
    image.claims.end(claim);
  }
}

/** Makes whole clusters zero; the caller holds an exclusive claim. Version 3 only. */
export function zeroClusters(image: Image, from: number, to: number): Promise<void> {
  return changeEntries(image, { from, to, change: { to: "zero", unmap: false } });
}

interface Work {
  readonly from: number;
  readonly to: number;
  readonly change: Change;
}

/** Ranges of the data's file that are of no use any more. */
type Discards = { offset: number; bytes: number }[];

/** Takes the lock per slice, so that a large request does not keep others out. */
async function changeEntries(image: Image, { from, to, change }: Work): Promise<void> {
  const { clusterSize, l2Coverage, sliceEntries } = image.geometry;
  const sliceCoverage = sliceEntries * clusterSize;
  const discards: Discards = [];
  for (let at = from; at < to;) {
    const start = at;
    const changed = async (): Promise<number> => {
      await makeRoom(image);
      const old = await loadSlice(image, start);
      if (old === null && isNothingToDo(image, change)) {
        return Math.min(to, start - (start % l2Coverage) + l2Coverage);
      }
      const end = Math.min(to, start - (start % sliceCoverage) + sliceCoverage);
      const slice = await writableSlice(image, start);
      changeSlice(image, slice, { from: start, to: end, change }, discards);
      return end;
    };
    at = await withRoom(image, () => image.locked(changed));
    assert(at > start && at <= to, "in order");
  }
  if (discards.length > 0) await discardData(image, discards);
}

/** Whether the change leaves unallocated clusters as they are. */
function isNothingToDo(image: Image, change: Change): boolean {
  if (change.to === "zero") return false;
  return change.full || !image.node.backing;
}

function changeSlice(image: Image, slice: CachedTable, work: Work, discards: Discards): void {
  const { clusterSize, entryBytes } = image.geometry;
  const { from, to, change } = work;
  assert(from < to && to - from <= sliceReach(image, from), "within its table");
  let dirtyFrom = -1;
  let dirtyTo = 0;
  for (let guest = from; guest < to; guest += clusterSize - (guest % clusterSize)) {
    const at = entryPlace(image, guest);
    const entry = { high: slice.view.getUint32(at), low: slice.view.getUint32(at + 4) };
    const keeps = keepsCluster(image, entry, change);
    const how: Change = keeps ? { to: "zero", unmap: false } : change;
    const next =
      entryBytes > 8
        ? changeSubclusters(image, { slice, at, guest, to }, how)
        : changedEntry(image, entry, how);
    const isEmptied = keeps && guest % clusterSize === 0 && to - guest >= clusterSize;
    if (isEmptied || next?.drops)
      letGo(image, { ...entry, keeps, reason: change.reason ?? "request" }, discards);
    if (!next) continue;
    slice.view.setUint32(at, next.high);
    slice.view.setUint32(at + 4, next.low);
    if (dirtyFrom < 0) dirtyFrom = at;
    dirtyTo = at + entryBytes;
  }
  if (dirtyFrom >= 0) image.l2.markDirty(slice, dirtyFrom, dirtyTo);
}

interface Entry {
  readonly high: number;
  readonly low: number;
}

/** Whether a cluster that is emptied stays the entry's, for the next write to it (discard-no-unref). One that snapshots share would be copied then. */
function keepsCluster({ options, hasDataFile }: Image, { high, low }: Entry, change: Change): boolean {
  const isEmptied = change.to === "zero" ? change.unmap : !change.full;
  const isOwn = (high & COPIED_HIGH) !== 0 && entryKind(high, low, hasDataFile) !== Kind.compressed;
  return options.keepsDiscarded && isEmptied && isOwn;
}

/** Changes the bits of the subclusters of [guest, to) in one cluster; gives what the entry's words become, as changedEntry. */
function changeSubclusters(
  image: Image,
  { slice, at, guest, to }: { slice: CachedTable; at: number; guest: number; to: number },
  change: Change,
): (Entry & { drops: boolean }) | undefined {
  const { clusterSize } = image.geometry;
  const { view } = slice;
  const entry = readExtended(image, view, at);
  const { high, low, zero, allocated, hasCluster } = entry;
  const inCluster = guest % clusterSize;
  const mask = subclusterMask(image, inCluster, Math.min(clusterSize, inCluster + to - guest));
  if (mask !== ALL || (change.to === "zero" && hasCluster && !change.unmap)) {
    if ((zero & mask) >>> 0 === mask && (allocated & mask) === 0) return undefined;
    writeBits(view, at, { zero: zero | mask, allocated: allocated & ~mask });
    return { high, low, drops: false };
  }
  const drops = hasCluster || entry.compressed;
  const isEmpty = !drops && zero === 0;
  if (isEmpty && isNothingToDo(image, change)) return undefined;
  const toZero = change.to === "zero" || !change.full;
  if (!drops && zero === ALL && toZero) return undefined;
  writeBits(view, at, { zero: toZero ? ALL : 0, allocated: 0 });
  return { high: 0, low: 0, drops };
}

/** What an entry becomes, and whether it lets go of what it refers to; undefined: it stays. */
function changedEntry(
  image: Image,
  { high, low }: Entry,
  change: Change,
): (Entry & { drops: boolean }) | undefined {
  const kind = entryKind(high, low, image.hasDataFile);
  const hasCluster = kind === Kind.normal || kind === Kind.zeroAllocated;
  if (change.to === "zero" && hasCluster && !change.unmap) {
    return kind === Kind.normal ? { high, low: (low | ZERO_LOW) >>> 0, drops: false } : undefined;
  }
  if (kind === Kind.unallocated && isNothingToDo(image, change)) return undefined;
  const toZero = change.to === "zero" || (!change.full && image.header.version >= 3);
  if (kind === Kind.zeroPlain && toZero) return undefined;
  return { high: 0, low: toZero ? ZERO_LOW : 0, drops: hasCluster || kind === Kind.compressed };
}

/** Gives up what an entry referred to; of a cluster that it keeps the content. */
function letGo(
  image: Image,
  { high, low, keeps, reason }: Entry & { keeps: boolean; reason: FreeReason },
  discards: Discards,
): void {
  const { clusterSize } = image.geometry;
  const host = entryOffset(high, low);
  if (keeps || image.hasDataFile) {
    if (!image.options.passDiscard[reason]) return;
    const last = discards.at(-1);
    if (last && last.offset + last.bytes === host) last.bytes += clusterSize;
    else discards.push({ offset: host, bytes: clusterSize });
  } else if (entryKind(high, low) === Kind.compressed) {
    freeCompressed(image, { high, low }, reason);
  } else {
    free(image, { cluster: host / clusterSize, count: 1 }, reason);
  }
}
