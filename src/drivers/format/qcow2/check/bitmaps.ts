/**
 * What persistent bitmaps refer to: their directory, their tables, their data. Source: qcow2.txt, "Bitmaps"; behaviour of
 * QEMU 7.2's check.
 */
import { BlockError, ImageError } from "../../../../base/errors.ts";
import { directoryPlace, parseDirectory } from "../disk/bitmap-directory.ts";
import { virtualSize } from "../disk/header.ts";
import { forEachEntry } from "./tables.ts";
import type { Walk } from "./inspected.ts";
import { Autoclear, entryOffset } from "../disk/layout.ts";

/** Bits of a bitmap table's entry that must be 0; the lowest one may stand alone, for a part of all ones. */
const RESERVED = [0xff000000, 0x1fe] as const;
const ALL_ONES = 1;

/** Counts what the bitmaps refer to. Errors: EINVAL for a directory that can't be read. */
export async function countBitmaps(walk: Walk): Promise<void> {
  const { header, file, result } = walk.image;
  if (!(Number(header.autoclear) & Autoclear.bitmaps)) return;
  const place = directoryPlace(header);
  if (!place) return;
  walk.add(place.offset, place.bytes);
  walk.spend(place.bytes);
  const directory = new Uint8Array(place.bytes);
  await file.pread(place.offset, directory);
  let entries;
  try {
    const { clusterSize } = walk;
    entries = parseDirectory(directory, { count: place.count, clusterSize, diskBytes: virtualSize(header) });
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    result.corruptions += 1;
    throw new BlockError({ code: "EINVAL", op: "check", message: error.message, cause: error });
  }
  for (const { tableOffset, tableEntries } of entries) {
    walk.add(tableOffset, tableEntries * 8);
    await forEachEntry(walk, { offset: tableOffset, entries: tableEntries }, (high, low) => {
      const offset = entryOffset(high, low);
      const bad =
        high & RESERVED[0] ||
        low & RESERVED[1] ||
        (offset !== 0 && (low & ALL_ONES || offset % walk.clusterSize !== 0));
      if (bad) result.corruptions += 1;
      else if (offset !== 0) walk.add(offset, walk.clusterSize);
    });
  }
}
