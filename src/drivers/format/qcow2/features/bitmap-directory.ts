/**
 * Which bitmap directory of an image counts. Where the header names one already, another takes its place by one write into one
 * sector: a crash leaves the one or the other. Else the header's bit says at last that the directory is up to date, and at
 * first, where one there is moves, that it is not. Source: qcow2.txt, "Bitmaps extension".
 */
import { sameBytes } from "../../../../base/bytes.ts";
import { SECTOR_SIZE } from "../../../../base/limits.ts";
import { type DirectoryPlace, directoryPlace, setDirectoryPlace } from "../disk/bitmap-directory.ts";
import { Extension, serializeExtensions } from "../disk/header-extensions.ts";
import { Autoclear, HEADER_BYTES_WRITTEN } from "../disk/layout.ts";
import { updateHeader, writeHeader } from "../metadata/header-update.ts";
import type { Image } from "../metadata/image.ts";

const AUTOCLEAR_BITMAPS = BigInt(Autoclear.bitmaps);
/** The journal's bit in the header. */
const JOURNAL_BIT = BigInt(Autoclear.bitmapJournal);
const HEAD_BYTES = 8;
const END_BYTES = 8;

/** The directory that the header names; undefined where there is none, or it is older than the data. */
export function trustedPlace({ header }: Image): DirectoryPlace | undefined {
  return (header.autoclear & AUTOCLEAR_BITMAPS) === 0n ? undefined : directoryPlace(header);
}

/** Where in the file the header names the directory; undefined where that is not within one sector, or not as we know it. */
export async function placeInFile({ header, file }: Image): Promise<number | undefined> {
  const index = header.extensions.findIndex(({ type }) => type === Extension.bitmaps);
  if (index < 0) return undefined;
  const before = serializeExtensions(header.extensions.slice(0, index)).byteLength - END_BYTES;
  const own = serializeExtensions(header.extensions.slice(index, index + 1)).subarray(0, -END_BYTES);
  // A header that another program wrote may be shorter than ours.
  for (const headerBytes of [header.headerLength, HEADER_BYTES_WRITTEN + header.unknownFields.byteLength]) {
    const at = headerBytes + before;
    const found = new Uint8Array(own.byteLength);
    await file.pread(at, found);
    const isWhole = (at + HEAD_BYTES) % SECTOR_SIZE <= SECTOR_SIZE - (own.byteLength - HEAD_BYTES);
    if (isWhole && sameBytes(found, own)) return at + HEAD_BYTES;
  }
  return undefined;
}

/** What is to count from now on. */
export interface DirectorySwitch {
  /** Undefined: there are no bitmaps any more. */
  readonly place: DirectoryPlace | undefined;
  /** Where in the file the present one is named, if it can be replaced there. */
  readonly at: number | undefined;
  /** The journal counts, too. */
  readonly journaled: boolean;
}

/** Lets another directory count. What it refers to is durable, and so is the switch when this returns. Under the lock. */
export async function switchDirectory(
  image: Image,
  { place, at, journaled }: DirectorySwitch,
): Promise<void> {
  if (place && at !== undefined) return replacePlace(image, { place, at, journaled });
  const own = AUTOCLEAR_BITMAPS | JOURNAL_BIT;
  if ((image.header.autoclear & own) !== 0n) await setBits(image, own, 0n);
  setDirectoryPlace(image.header, place);
  note(image, place);
  await writeHeader(image);
  await image.file.flush();
  if (place) await setBits(image, own, AUTOCLEAR_BITMAPS | (journaled ? JOURNAL_BIT : 0n));
}

/** What is to count, where a directory does. */
type Replacement = Required<{ [K in keyof DirectorySwitch]: NonNullable<DirectorySwitch[K]> }>;

async function replacePlace(image: Image, { place, at, journaled }: Replacement): Promise<void> {
  setDirectoryPlace(image.header, place);
  const { data } = image.header.extensions.find(({ type }) => type === Extension.bitmaps)!;
  try {
    await image.file.pwrite(at, data);
    await image.file.flush();
    // An error may have ended the journal.
    if (journaled && !hasJournalBit(image)) await setJournalBit(image);
  } catch (error) {
    // Which of them the file names is not known: none is to count.
    await setBits(image, AUTOCLEAR_BITMAPS | JOURNAL_BIT, 0n);
    throw error;
  }
  note(image, place);
}

async function setBits(image: Image, mask: bigint, bits: bigint): Promise<void> {
  await updateHeader(image, (header) => {
    header.autoclear = (header.autoclear & ~mask) | bits;
  });
  await image.file.flush();
}

/** Whether the header says that a journal of bitmaps counts. */
export function hasJournalBit({ header }: Image): boolean {
  return (header.autoclear & JOURNAL_BIT) !== 0n;
}

/** From now on nobody takes what the journal says for all that was written: durable when it returns. */
export async function clearJournalBit(image: Image): Promise<void> {
  if (hasJournalBit(image)) await image.locked(() => setBits(image, JOURNAL_BIT, 0n));
}

/** From now on the journal counts: durable when it returns. Under the lock. */
export function setJournalBit(image: Image): Promise<void> {
  return setBits(image, JOURNAL_BIT, JOURNAL_BIT);
}

/** No other write may land on the directory. */
export function note({ metadata }: Image, place: DirectoryPlace | undefined): void {
  metadata.removeRanges("bitmap directory");
  if (place) metadata.addRange("bitmap directory", place.offset, place.bytes);
}
