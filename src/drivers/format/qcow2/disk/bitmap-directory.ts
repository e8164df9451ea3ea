/**
 * The bitmap directory of qcow2: parsing, serialising, and the header extension that points to it. Pure.
 * Source: qcow2.txt, "Bitmaps extension", "Bitmap directory".
 */
import { decodeName, encodeName } from "../../../../base/names.ts";
import { ImageError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import { Extension } from "./header-extensions.ts";
import type { Header } from "./header.ts";
import { readU64, writeU64 } from "./layout.ts";

const EXTENSION_BYTES = 24;
const ENTRY_BYTES = 24;
const DIRTY_TRACKING = 1;
const MIN_GRANULARITY_BITS = 9;
const MAX_GRANULARITY_BITS = 31;

/** Flags of an entry. */
export const BitmapFlag = { inUse: 1, auto: 2 } as const;

/** Where the directory lies. */
export interface DirectoryPlace {
  count: number;
  bytes: number;
  offset: number;
}

/** One bitmap of the directory. */
export interface DirectoryEntry {
  tableOffset: number;
  tableEntries: number;
  flags: number;
  granularityBits: number;
  name: string;
}

function bad(field: string, message: string): never {
  throw new ImageError({ structure: "bitmap directory", field, message });
}

/** What the header's extension says; undefined if there is none. Throws ImageError. */
export function directoryPlace(header: Header): DirectoryPlace | undefined {
  const extension = header.extensions.find(({ type }) => type === Extension.bitmaps);
  if (!extension) return undefined;
  const { data } = extension;
  if (data.byteLength !== EXTENSION_BYTES) bad("length", "bitmaps_ext: Invalid extension length");
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const place = { count: view.getUint32(0), bytes: readU64(view, 8), offset: readU64(view, 16) };
  if (view.getUint32(4) !== 0) bad("reserved", "bitmaps_ext: Reserved field is not zero");
  if (place.count === 0) bad("nb_bitmaps", "found bitmaps extension with zero bitmaps");
  if (place.count > limits.qcow2MaxBitmaps) {
    bad(
      "nb_bitmaps",
      `bitmaps_ext: Image has ${place.count} bitmaps, exceeding the QEMU supported maximum of ${limits.qcow2MaxBitmaps}`,
    );
  }
  if (place.offset % 2 ** header.clusterBits !== 0)
    bad("offset", "bitmaps_ext: invalid bitmap directory offset");
  if (place.bytes > limits.qcow2MaxBitmapDirectoryBytes) {
    bad(
      "size",
      `bitmaps_ext: bitmap directory size (${place.bytes}) exceeds the maximum supported size (${limits.qcow2MaxBitmapDirectoryBytes})`,
    );
  }
  return place;
}

/** Puts the extension into the header, replaces it, or (undefined) removes it. A new one comes last: no other record moves. */
export function setDirectoryPlace(header: Header, place: DirectoryPlace | undefined): void {
  const others = header.extensions.filter(({ type }) => type !== Extension.bitmaps);
  if (!place) {
    header.extensions = others;
    return;
  }
  const data = new Uint8Array(EXTENSION_BYTES);
  const view = new DataView(data.buffer);
  view.setUint32(0, place.count);
  writeU64(view, 8, place.bytes);
  writeU64(view, 16, place.offset);
  const own = { type: Extension.bitmaps, data };
  const at = header.extensions.findIndex(({ type }) => type === Extension.bitmaps);
  header.extensions = at < 0 ? [...others, own] : header.extensions.with(at, own);
}

function entryBytes(nameBytes: number, extraBytes = 0): number {
  return Math.ceil((ENTRY_BYTES + nameBytes + extraBytes) / 8) * 8;
}

/** The entries in a directory's bytes. Throws ImageError in QEMU's words. */
export function parseDirectory(
  bytes: Uint8Array,
  { count, clusterSize, diskBytes }: { count: number; clusterSize: number; diskBytes: number },
): DirectoryEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: DirectoryEntry[] = [];
  let at = 0;
  while (at < bytes.byteLength) {
    if (entries.length >= count) bad("nb_bitmaps", "More bitmaps found than specified in header extension");
    if (at + ENTRY_BYTES > bytes.byteLength) bad("size", "Broken bitmap directory");
    const nameBytes = view.getUint16(at + 18);
    const extraBytes = view.getUint32(at + 20);
    const length = entryBytes(nameBytes, extraBytes);
    if (at + length > bytes.byteLength) bad("size", "Broken bitmap directory");
    if (extraBytes > 0) bad("extra_data", "Bitmap extra data is not supported");
    const start = at + ENTRY_BYTES;
    const entry = {
      tableOffset: readU64(view, at),
      tableEntries: view.getUint32(at + 8),
      flags: view.getUint32(at + 12),
      granularityBits: bytes[at + 17] ?? 0,
      name: decodeName(bytes.subarray(start, start + nameBytes)),
    };
    checkEntry(entry, { type: bytes[at + 16] ?? 0, nameBytes, clusterSize, diskBytes });
    entries.push(entry);
    at += length;
  }
  if (entries.length !== count) bad("nb_bitmaps", "Less bitmaps found than specified in header extension");
  return entries;
}

interface EntryLimits {
  type: number;
  nameBytes: number;
  clusterSize: number;
  diskBytes: number;
}

function checkEntry(entry: DirectoryEntry, { type, nameBytes, clusterSize, diskBytes }: EntryLimits): void {
  const { tableOffset, tableEntries, flags, granularityBits } = entry;
  const refuse = (field: string): never =>
    bad(field, `Bitmap '${entry.name}' doesn't satisfy the constraints`);
  if (type !== DIRTY_TRACKING) refuse("type");
  if (nameBytes === 0 || nameBytes > limits.maxBitmapNameBytes) refuse("name");
  if (flags & ~(BitmapFlag.inUse | BitmapFlag.auto)) refuse("flags");
  if (granularityBits < MIN_GRANULARITY_BITS || granularityBits > MAX_GRANULARITY_BITS)
    refuse("granularity_bits");
  if (tableOffset === 0 || tableOffset % clusterSize !== 0) refuse("bitmap_table_offset");
  const held = tableEntries * clusterSize;
  const tooShort = !(flags & BitmapFlag.inUse) && diskBytes > held * 8 * 2 ** granularityBits;
  if (tableEntries === 0 || held > limits.qcow2MaxBitmapBytes || tooShort) refuse("bitmap_table_size");
}

/** The directory's bytes. */
export function serializeDirectory(entries: readonly DirectoryEntry[]): Uint8Array {
  const names = entries.map(({ name }) => encodeName(name));
  const bytes = new Uint8Array(names.reduce((sum, name) => sum + entryBytes(name.byteLength), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  entries.forEach((entry, index) => {
    const name = names[index] ?? new Uint8Array(0);
    writeU64(view, at, entry.tableOffset);
    view.setUint32(at + 8, entry.tableEntries);
    view.setUint32(at + 12, entry.flags);
    bytes[at + 16] = DIRTY_TRACKING;
    bytes[at + 17] = entry.granularityBits;
    view.setUint16(at + 18, name.byteLength);
    bytes.set(name, at + ENTRY_BYTES);
    at += entryBytes(name.byteLength);
  });
  return bytes;
}
