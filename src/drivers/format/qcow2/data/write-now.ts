/**
 * Writing guest data at once, where the file below takes it at once: into clusters that the image has to itself, or into a
 * run of new ones for whole clusters that were never written. Everything that it needs must be in memory and nobody else
 * at work; otherwise write.ts does it.
 *
 * Invariants: as write.ts's: the data is written before the L2 entries change, the refcounts change with them in memory, and
 * write-back.ts orders both. Nothing is awaited, so no lock is taken. A write that fails leaves the metadata unchanged.
 */
import { noteTouched, peekRun, takeNow } from "../metadata/allocate.ts";
import type { Image } from "../metadata/image.ts";
import { COPIED_HIGH, Kind, writeEntry } from "../disk/layout.ts";
import { entryPlace, extentAt, isImpossible, peekOwnSlice } from "../metadata/mapping.ts";
import type { CachedTable } from "../metadata/metadata-cache.ts";
import { hasRoom } from "../metadata/write-back.ts";

/** Writes `buffer` at `offset`, within the virtual disk. False: it can't be or failed; nothing refers to what was written. */
export function writeGuestNow(image: Image, offset: number, buffer: Uint8Array): boolean {
  if (!isQuiet(image)) return false;
  const slice = peekOwnSlice(image, offset);
  if (!slice) return false;
  const extent = extentAt(image, slice, offset, buffer.byteLength);
  if (extent.bytes < buffer.byteLength || isImpossible(image, extent, offset)) return false;
  if (extent.kind === Kind.normal) return extent.copied && writeData(image, extent.host, buffer);
  if (extent.kind !== Kind.unallocated && extent.kind !== Kind.zeroPlain) return false;
  return writeNew(image, slice, offset, buffer);
}

/** Whether nobody is at work on the image, and its data lies in the file as it is, in clusters without parts. */
function isQuiet(image: Image): boolean {
  const { claims, file, geometry, mutex } = image;
  if (image.dead || image.hasDataFile || image.encryption || geometry.entryBytes > 8) return false;
  return claims.idle && !mutex.locked && !file.node.driver.debugEvent && hasRoom(image);
}

function writeNew(image: Image, slice: CachedTable, offset: number, buffer: Uint8Array): boolean {
  const { clusterSize } = image.geometry;
  const count = buffer.byteLength / clusterSize;
  if (offset % clusterSize !== 0 || !Number.isInteger(count)) return false;
  const run = peekRun(image, count);
  if (!run) return false;
  const host = run.cluster * clusterSize;
  // A write that fails may leave a part of itself in clusters that others then take.
  noteTouched(image, run.cluster + count);
  if (!writeData(image, host, buffer)) return false;
  takeNow(image, run, count);
  const first = entryPlace(image, offset);
  for (let index = 0; index < count; index++)
    writeEntry(slice.view, first + index * 8, host + index * clusterSize, COPIED_HIGH);
  image.l2.markDirty(slice, first, first + count * 8);
  image.barrierBeforeL2 = true;
  return true;
}

/** False also where the data would land on metadata: write.ts then says so. */
function writeData(image: Image, host: number, buffer: Uint8Array): boolean {
  return image.metadata.overlap(host, buffer.byteLength) === undefined && image.data.pwriteNow(host, buffer);
}
