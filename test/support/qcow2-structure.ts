// Where the parts of a (good) qcow2 image lie, for tests that damage them. Source: qcow2.txt.

/** An entry of a table: where it lies in the file, in bytes. */
export interface Places {
  readonly clusterSize: number;
  readonly entryBytes: number;
  readonly version: number;
  readonly refcountBits: number;
  readonly l1: readonly number[];
  /** Tables of the active L1 table: their offsets. */
  readonly l2Tables: readonly number[];
  /** L2 entries that say something, by kind. */
  readonly normal: readonly number[];
  readonly zero: readonly number[];
  readonly compressed: readonly number[];
  readonly unallocated: readonly number[];
  readonly refcountTable: readonly number[];
  readonly refcountBlocks: readonly number[];
  readonly snapshots: readonly SnapshotPlace[];
  /** The bitmap extension's data in the header, the directory's entries, entries of their tables. */
  readonly bitmapExtension: number;
  readonly bitmaps: readonly number[];
  readonly bitmapTables: readonly number[];
}

/** An entry of the snapshot table and its L1 entries. */
export interface SnapshotPlace {
  readonly at: number;
  readonly l1: readonly number[];
}

const OFFSET_MASK = 0x00fffffffffffe00n;

function pointer(image: Buffer, at: number): number {
  return Number(image.readBigUInt64BE(at) & OFFSET_MASK);
}

function entries(offset: number, count: number, bytes = 8): number[] {
  return Array.from({ length: count }, (_, index) => offset + index * bytes);
}

/** Finds everything. The image must be good. */
export function placesOf(image: Buffer): Places {
  const clusterSize = 2 ** image.readUInt32BE(20);
  const version = image.readUInt32BE(4);
  const entryBytes = version > 2 && image.readUInt8(79) & 16 ? 16 : 8;
  const l1 = entries(pointer(image, 40), image.readUInt32BE(36));
  const l2Tables = l1.map((at) => pointer(image, at)).filter((offset) => offset !== 0);
  const l2 = l2Tables.flatMap((offset) => entries(offset, clusterSize / entryBytes, entryBytes));
  const kinds = new Map<string, number[]>();
  for (const at of l2) {
    const entry = image.readBigUInt64BE(at);
    const isZero = (entry & 1n) !== 0n;
    const kind =
      (entry >> 62n) & 1n ? "compressed" : isZero ? "zero" : entry === 0n ? "unallocated" : "normal";
    kinds.set(kind, [...(kinds.get(kind) ?? []), at]);
  }
  const refcountTable = entries(pointer(image, 48), (image.readUInt32BE(56) * clusterSize) / 8);
  const bitmaps = bitmapPlaces(image, version);
  return {
    clusterSize,
    entryBytes,
    version,
    refcountBits: version > 2 ? 2 ** image.readUInt32BE(96) : 16,
    l1,
    l2Tables,
    normal: kinds.get("normal") ?? [],
    zero: kinds.get("zero") ?? [],
    compressed: kinds.get("compressed") ?? [],
    unallocated: kinds.get("unallocated") ?? [],
    refcountTable,
    refcountBlocks: refcountTable.map((at) => Number(image.readBigUInt64BE(at))).filter((at) => at !== 0),
    snapshots: snapshotPlaces(image),
    ...bitmaps,
  };
}

function snapshotPlaces(image: Buffer): SnapshotPlace[] {
  const places: SnapshotPlace[] = [];
  let at = Number(image.readBigUInt64BE(64));
  for (let left = image.readUInt32BE(60); left > 0; left--) {
    places.push({ at, l1: entries(Number(image.readBigUInt64BE(at)), image.readUInt32BE(at + 8)) });
    const bytes =
      40 + image.readUInt32BE(at + 36) + image.readUInt16BE(at + 12) + image.readUInt16BE(at + 14);
    at += Math.ceil(bytes / 8) * 8;
  }
  return places;
}

function bitmapPlaces(
  image: Buffer,
  version: number,
): Pick<Places, "bitmapExtension" | "bitmaps" | "bitmapTables"> {
  const none = { bitmapExtension: 0, bitmaps: [], bitmapTables: [] };
  if (version < 3) return none;
  let at = image.readUInt32BE(100);
  while (image.readUInt32BE(at) !== 0x23852875) {
    if (image.readUInt32BE(at) === 0) return none;
    at += 8 + Math.ceil(image.readUInt32BE(at + 4) / 8) * 8;
  }
  const bitmaps: number[] = [];
  const bitmapTables: number[] = [];
  let entry = Number(image.readBigUInt64BE(at + 24));
  for (let left = image.readUInt32BE(at + 8); left > 0; left--) {
    bitmaps.push(entry);
    bitmapTables.push(...entries(Number(image.readBigUInt64BE(entry)), image.readUInt32BE(entry + 8)));
    const bytes = 24 + image.readUInt16BE(entry + 18) + image.readUInt32BE(entry + 20);
    entry += Math.ceil(bytes / 8) * 8;
  }
  return { bitmapExtension: at + 8, bitmaps, bitmapTables };
}
