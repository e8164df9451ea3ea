/**
 * The journal of dirty bitmaps in the last sectors of the header's cluster: pure codecs. It counts while the autoclear bit
 * `Autoclear.bitmapJournal` is set, which every program that does not know it clears before it writes to the image.
 *
 * Two slots take turns. One names the bitmap directory that it belongs to (place, checksum, length of the disk) and tells which of
 * its bitmaps are right although they are in use. Sectors of regions follow, a bit for each stretch of the disk: what was written to
 * since those bitmaps were stored is in a region whose bit is set. The last region reaches to the end of any disk.
 *
 * Every sector is written whole and has its own checksum (CRC-32C). All numbers are big endian:
 *   slot:    0 "bwBs", 4 CRC, 8 entries, 12 CRC of the directory, 16 its offset, 24 its bytes, 32 length of the disk, 48 … a bit an entry
 *   regions: 0 "bwBr", 4 CRC, 8 index of the sector (u8), 9 log2 of a region's bytes (u8), 16 … the bits, bit 0 first
 */
import { MiB, SECTOR_SIZE } from "../../../../base/limits.ts";
import type { DirectoryPlace } from "./bitmap-directory.ts";
import { readU64, writeU64 } from "./layout.ts";

const SLOT_MAGIC = 0x62774273;
const REGIONS_MAGIC = 0x62774272;
const SLOT_BITS_AT = 48;
const REGION_BITS_AT = 16;
const SLOTS = 2;
const REGION_BYTES = SECTOR_SIZE - REGION_BITS_AT;
/** Smaller clusters have no room beside the header. */
const MIN_CLUSTER = 4096;
const LARGE_CLUSTER = 16384;

/** Bitmaps that a slot can tell of. */
export const MOST_JOURNALED_BITMAPS = (SECTOR_SIZE - SLOT_BITS_AT) * 8;

/** CRC-32C. */
type Checksum = (bytes: Uint8Array) => number;

/** Where a journal lies in the first cluster. */
export interface JournalPlace {
  /** Bytes from the start of the file. */
  readonly at: number;
  /** Sectors of regions. */
  readonly sectors: number;
  /** All of it. */
  readonly bytes: number;
}

/** Undefined where the clusters are too small for one. */
export function journalPlace(clusterSize: number): JournalPlace | undefined {
  if (clusterSize < MIN_CLUSTER) return undefined;
  const sectors = clusterSize < LARGE_CLUSTER ? 2 : 6;
  const bytes = (SLOTS + sectors) * SECTOR_SIZE;
  return { at: clusterSize - bytes, sectors, bytes };
}

/** Which directory a journal belongs to. */
export interface JournalSlot {
  readonly place: DirectoryPlace;
  /** Of the directory without its marks of use. */
  readonly directoryCrc: number;
  /** Length of the disk when the bitmaps were stored, bytes. */
  readonly diskBytes: number;
  /** For each of its bitmaps: what is stored of it was right. */
  readonly right: readonly boolean[];
}

/** Stretches of the disk, `2 ** bits` bytes each. */
export interface Regions {
  readonly bits: number;
  /** A bit for each, bit 0 first. */
  readonly set: Uint8Array;
}

/** What lies in an image. */
export interface StoredJournal {
  readonly slots: readonly (JournalSlot | undefined)[];
  readonly regions: Regions;
}

/** The smallest regions of which so many sectors cover a disk: 1 MiB or more. */
export function regionBits(diskBytes: number, { sectors }: JournalPlace): number {
  const most = sectors * REGION_BYTES * 8;
  let bits = Math.log2(MiB);
  while (2 ** bits * most < diskBytes) bits += 1;
  return bits;
}

/** None set. */
export function emptyRegions({ sectors }: JournalPlace): Uint8Array {
  return new Uint8Array(sectors * REGION_BYTES);
}

function sealed(sector: Uint8Array, magic: number, checksum: Checksum): Uint8Array {
  const view = new DataView(sector.buffer);
  view.setUint32(0, magic);
  view.setUint32(4, checksum(sector));
  return sector;
}

/** The sector, if it is whole and of that kind. */
function opened(sector: Uint8Array, magic: number, checksum: Checksum): DataView | undefined {
  const copy = sector.slice();
  const view = new DataView(copy.buffer);
  const crc = view.getUint32(4);
  if (view.getUint32(0) !== magic) return undefined;
  view.setUint32(4, 0);
  return checksum(copy) === crc ? view : undefined;
}

/** Where in the journal a slot begins. */
export function slotAt(index: number): number {
  return index * SECTOR_SIZE;
}

/** Where in the journal a sector of regions begins. */
export function regionsAt(index: number): number {
  return (SLOTS + index) * SECTOR_SIZE;
}

/** The sector in which a region's bit is. */
export function sectorOf(region: number): number {
  return Math.floor(region / (REGION_BYTES * 8));
}

/** A slot's sector. */
export function serializeSlot(slot: JournalSlot, checksum: Checksum): Uint8Array {
  const sector = new Uint8Array(SECTOR_SIZE);
  const view = new DataView(sector.buffer);
  view.setUint32(8, slot.place.count);
  view.setUint32(12, slot.directoryCrc);
  writeU64(view, 16, slot.place.offset);
  writeU64(view, 24, slot.place.bytes);
  writeU64(view, 32, slot.diskBytes);
  for (const [index, isRight] of slot.right.entries())
    if (isRight) sector[SLOT_BITS_AT + (index >> 3)]! |= 1 << (index & 7);
  return sealed(sector, SLOT_MAGIC, checksum);
}

function parseSlot(sector: Uint8Array, checksum: Checksum): JournalSlot | undefined {
  const view = opened(sector, SLOT_MAGIC, checksum);
  if (!view) return undefined;
  const count = view.getUint32(8);
  const isRight = (index: number): boolean =>
    (view.getUint8(SLOT_BITS_AT + (index >> 3)) & (1 << (index & 7))) !== 0;
  return {
    place: { count, offset: readU64(view, 16), bytes: readU64(view, 24) },
    directoryCrc: view.getUint32(12),
    diskBytes: readU64(view, 32),
    right: Array.from({ length: Math.min(count, MOST_JOURNALED_BITMAPS) }, (_, index) => isRight(index)),
  };
}

/** One sector of the regions. */
export function serializeRegions(regions: Regions, index: number, checksum: Checksum): Uint8Array {
  const sector = new Uint8Array(SECTOR_SIZE);
  sector[8] = index;
  sector[9] = regions.bits;
  sector.set(regions.set.subarray(index * REGION_BYTES, (index + 1) * REGION_BYTES), REGION_BITS_AT);
  return sealed(sector, REGIONS_MAGIC, checksum);
}

/** A whole journal: one slot, which comes first. */
export function serializeJournal(slot: JournalSlot, regions: Regions, checksum: Checksum): Uint8Array {
  const sectors = regions.set.byteLength / REGION_BYTES;
  const bytes = new Uint8Array(regionsAt(sectors));
  bytes.set(serializeSlot(slot, checksum), slotAt(0));
  for (let index = 0; index < sectors; index++)
    bytes.set(serializeRegions(regions, index, checksum), regionsAt(index));
  return bytes;
}

/** Undefined unless every sector of the regions is whole, and of regions of one size. */
export function parseJournal(bytes: Uint8Array, checksum: Checksum): StoredJournal | undefined {
  const part = (at: number): Uint8Array => bytes.subarray(at, at + SECTOR_SIZE);
  const sectors = bytes.byteLength / SECTOR_SIZE - SLOTS;
  const set = new Uint8Array(sectors * REGION_BYTES);
  let bits: number | undefined;
  for (let index = 0; index < sectors; index++) {
    const view = opened(part(regionsAt(index)), REGIONS_MAGIC, checksum);
    if (!view || view.getUint8(8) !== index) return undefined;
    bits ??= view.getUint8(9);
    if (bits !== view.getUint8(9)) return undefined;
    set.set(new Uint8Array(view.buffer, REGION_BITS_AT), index * REGION_BYTES);
  }
  const slots = Array.from({ length: SLOTS }, (_, index) => parseSlot(part(slotAt(index)), checksum));
  return bits === undefined ? undefined : { slots, regions: { bits, set } };
}

/** Makes a stored bitmap one of a disk of `diskBytes`, and dirty wherever a region is. */
export function withRegions(
  bits: Uint8Array,
  regions: Regions | undefined,
  { granularity, diskBytes }: { granularity: number; diskBytes: number },
): Uint8Array {
  const granules = Math.ceil(diskBytes / granularity);
  const whole = new Uint8Array(Math.ceil(granules / 8));
  whole.set(bits.subarray(0, whole.byteLength));
  if (!regions) return whole;
  const last = regions.set.byteLength * 8 - 1;
  const bytes = 2 ** regions.bits;
  for (let region = 0; region <= last && region * bytes < diskBytes; region++) {
    if (((regions.set[region >> 3] ?? 0) & (1 << (region & 7))) === 0) continue;
    const end = region === last ? diskBytes : Math.min(diskBytes, (region + 1) * bytes);
    setBits(whole, Math.floor((region * bytes) / granularity), Math.ceil(end / granularity));
  }
  return whole;
}

/** Sets bits `from` … `to - 1`. */
export function setBits(bytes: Uint8Array, from: number, to: number): void {
  let at = from;
  for (; at < to && (at & 7) !== 0; at++) bytes[Math.floor(at / 8)]! |= 1 << (at & 7);
  const whole = Math.floor(to / 8) * 8;
  if (at < whole) bytes.fill(0xff, at / 8, whole / 8);
  for (at = Math.max(at, whole); at < to; at++) bytes[Math.floor(at / 8)]! |= 1 << (at & 7);
}
