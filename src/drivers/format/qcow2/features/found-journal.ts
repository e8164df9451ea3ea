/** What a crash has left of a journal of dirty bitmaps, and what it makes of them. */
import { ImageError } from "../../../../base/errors.ts";
import {
  BitmapFlag,
  type DirectoryEntry,
  type DirectoryPlace,
  serializeDirectory,
} from "../disk/bitmap-directory.ts";
import {
  journalPlace,
  type JournalSlot,
  parseJournal,
  type Regions,
  withRegions,
} from "../disk/bitmap-journal.ts";
import type { Image } from "../metadata/image.ts";
import { hasJournalBit } from "./bitmap-directory.ts";
import { readBits } from "./bitmap-tables.ts";

/** The journal that belongs to the bitmaps in the image. */
export interface FoundJournal {
  readonly regions: Regions;
  readonly slot: number;
  readonly about: JournalSlot;
}

/** The checksum of a directory without its marks of use: those are set one after the other. */
export function directoryCrc({ node }: Image, entries: readonly DirectoryEntry[]): number {
  const unused = entries.map((entry) => ({ ...entry, flags: entry.flags & ~BitmapFlag.inUse }));
  return node.services.kernels.crc32c(serializeDirectory(unused));
}

/** Undefined where none counts, none is whole, or it is about other bitmaps than these. */
export async function findJournal(
  image: Image,
  place: DirectoryPlace,
  entries: readonly DirectoryEntry[],
): Promise<FoundJournal | undefined> {
  const where = journalPlace(image.geometry.clusterSize);
  if (!hasJournalBit(image) || !where) return undefined;
  const bytes = new Uint8Array(where.bytes);
  await image.file.pread(where.at, bytes);
  const journal = parseJournal(bytes, (part) => image.node.services.kernels.crc32c(part));
  const crc = directoryCrc(image, entries);
  const isOurs = (one: JournalSlot | undefined): boolean =>
    one?.directoryCrc === crc &&
    one.place.count === place.count &&
    one.place.offset === place.offset &&
    one.place.bytes === place.bytes;
  const slot = journal?.slots.findIndex(isOurs) ?? -1;
  const about = journal?.slots[slot];
  return journal && about ? { regions: journal.regions, slot, about } : undefined;
}

/** The bits of a bitmap that was in use, by its index in the directory; undefined where nobody can tell. Errors: those of the file. */
export async function recoverBits(
  image: Image,
  { entry, index, found }: { entry: DirectoryEntry; index: number; found: FoundJournal | undefined },
): Promise<Uint8Array | undefined> {
  if (!found?.about.right[index]) return undefined;
  try {
    const bits = await readBits(image, entry, found.about.diskBytes);
    const regions = entry.flags & BitmapFlag.auto ? found.regions : undefined;
    return withRegions(bits, regions, { granularity: 2 ** entry.granularityBits, diskBytes: image.size });
  } catch (error) {
    if (error instanceof ImageError) return undefined;
    throw error;
  }
}
