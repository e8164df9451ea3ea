/**
 * Constants of the qcow2 format and the pure arithmetic on its table entries. Table entries are big-endian u64; they are
 * handled as two u32 words (`high`, `low`) so that no bigint is on the hot path.
 * Source: QEMU docs/interop/qcow2.txt, "Header", "Cluster mapping", "Host cluster management".
 *
 * Refcounts of 1, 2, 4, 8, 16, 32 or 64 bits in a refcount block. Widths below a byte fill it from the least significant
 * bit; wider ones are big-endian. Pure functions on a block's bytes. Source: qcow2.txt, "Host cluster management".
 */

/** "QFI\xfb". */
export const MAGIC = 0x514649fb;
/** Bytes of a version 2 header. */
export const HEADER_BYTES_V2 = 72;
/** Bytes of the smallest version 3 header. */
export const HEADER_BYTES_V3 = 104;
/** Bytes of the version 3 header that we write (with compression_type and padding). */
export const HEADER_BYTES_WRITTEN = 112;

/** Bits of `incompatible_features`. */
export const Incompatible = {
  dirty: 1,
  corrupt: 2,
  dataFile: 4,
  compressionType: 8,
  extendedL2: 16,
} as const;
/** Bits of `compatible_features`. */
export const Compatible = { lazyRefcounts: 1 } as const;
/** Bits of `autoclear_features`. The last is ours (disk/bitmap-journal.ts): QEMU clears what it doesn't know. */
export const Autoclear = { bitmaps: 1, dataFileRaw: 2, bitmapJournal: 2 ** 30 } as const;

/** High word: the refcount of what the entry points to is exactly one. */
export const COPIED_HIGH = 0x80000000;
/** High word: the entry describes a compressed cluster. */
export const COMPRESSED_HIGH = 0x40000000;
/** Low word: the cluster reads as zeroes (version 3). */
export const ZERO_LOW = 1;

const TWO_32 = 2 ** 32;
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;

/** What an L2 entry says of its cluster. */
export const Kind = {
  unallocated: 0,
  normal: 1,
  zeroPlain: 2,
  zeroAllocated: 3,
  compressed: 4,
  /** A subcluster without content of its own in a cluster that the file holds. */
  reserved: 5,
  /** Bits that contradict each other. */
  invalid: 6,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** The host offset in an L1 or L2 entry (bits 9 … 55), bytes. Exact, though it may exceed a safe integer; see isHostOffset. */
export function entryOffset(high: number, low: number): number {
  return (high & OFFSET_HIGH) * TWO_32 + ((low & OFFSET_LOW) >>> 0);
}

/** The kind of an ordinary L2 entry. In an external data file offset 0 is a place too, which COPIED tells from none. */
export function entryKind(high: number, low: number, hasDataFile = false): Kind {
  if (high & COMPRESSED_HIGH) return Kind.compressed;
  const hasOffset = (high & OFFSET_HIGH) !== 0 || (low & OFFSET_LOW) !== 0;
  if (!hasOffset && hasDataFile && !(low & ZERO_LOW) && high & COPIED_HIGH) return Kind.normal;
  if (low & ZERO_LOW) return hasOffset ? Kind.zeroAllocated : Kind.zeroPlain;
  return hasOffset ? Kind.normal : Kind.unallocated;
}

/** The words of an offset, with `flagsHigh` in the high one. */
export function writeEntry(view: DataView, at: number, offset: number, flagsHigh: number): void {
  view.setUint32(at, (Math.floor(offset / TWO_32) | flagsHigh) >>> 0);
  view.setUint32(at + 4, offset >>> 0);
}

/** Reads a u64 as a number; exact only up to 2^53, larger ones stay larger. */
export function readU64(view: DataView, at: number): number {
  return view.getUint32(at) * TWO_32 + view.getUint32(at + 4);
}

/** Writes a safe integer as u64. */
export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_32));
  view.setUint32(at + 4, value >>> 0);
}

/** Where a compressed cluster lies. */
export interface CompressedExtent {
  /** First byte in the file; any alignment. */
  offset: number;
  /** Bytes up to the end of the last sector that the entry names; the stream may end earlier. */
  bytes: number;
}

/** Decodes the entry of a compressed cluster. */
export function compressedExtent(high: number, low: number, clusterBits: number): CompressedExtent {
  const shift = 62 - (clusterBits - 8) - 32;
  const offset = (high & (2 ** shift - 1)) * TWO_32 + low;
  const sectors = ((high >>> shift) & (2 ** (clusterBits - 8) - 1)) + 1;
  return { offset, bytes: sectors * 512 - (offset % 512) };
}

/** Encodes the entry of a compressed cluster: `bytes` of stream at `offset`. Returns [high, low]. */
export function compressedEntry(extent: CompressedExtent, clusterBits: number): [number, number] {
  const shift = 62 - (clusterBits - 8) - 32;
  const { offset, bytes } = extent;
  const sectors = Math.floor((offset + bytes - 1) / 512) - Math.floor(offset / 512);
  const high = (COMPRESSED_HIGH | (sectors << shift) | Math.floor(offset / TWO_32)) >>> 0;
  return [high, offset >>> 0];
}

/** Sizes that follow from the header. All in bytes unless named otherwise. */
export interface Geometry {
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Bytes of an L2 entry: 8, or 16 with subclusters. */
  readonly entryBytes: number;
  /** Bytes that are mapped one by one: a cluster, or one of its 32 subclusters. */
  readonly subclusterSize: number;
  /** Entries of an L2 table. */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  /** Bytes of a slice: the unit in which tables are cached. */
  readonly sliceBytes: number;
  readonly sliceEntries: number;
  /** Refcount width is 2^order bits. */
  readonly refcountOrder: number;
  /** Refcounts in one refcount block. */
  readonly blockEntries: number;
}

/** Derives the sizes. */
export function makeGeometry(clusterBits: number, refcountOrder: number, extended = false): Geometry {
  const clusterSize = 2 ** clusterBits;
  const entryBytes = extended ? 16 : 8;
  const sliceBytes = Math.min(clusterSize, 65536);
  return {
    clusterBits,
    clusterSize,
    entryBytes,
    subclusterSize: extended ? clusterSize / 32 : clusterSize,
    l2Entries: clusterSize / entryBytes,
    l2Coverage: (clusterSize / entryBytes) * clusterSize,
    sliceBytes,
    sliceEntries: sliceBytes / entryBytes,
    refcountOrder,
    blockEntries: (clusterSize * 8) / 2 ** refcountOrder,
  };
}

/** Entries that the L1 table of a disk of `size` bytes needs. */
export function l1EntriesFor(size: number, geometry: Geometry): number {
  return Math.ceil(size / geometry.l2Coverage);
}

/** Whether `value` is a power of two and min <= value <= max. */
export function isPowerOfTwoBetween(value: number, min: number, max: number): boolean {
  return value >= min && value <= max && Number.isInteger(Math.log2(value));
}

/** The bytes of a block and a view of the same bytes. */
export interface BlockBytes {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** The largest refcount of a width of 2^order bits that is written as a number: one of 64 bits stops at the largest safe integer. */
export function maxRefcount(order: number): number {
  return order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1;
}

/** The refcount at `index`, exactly. */
export function exactRefcount(block: BlockBytes, index: number, order: number): bigint {
  return order === 6 ? block.view.getBigUint64(index * 8) : BigInt(readRefcount(block, index, order));
}

/** Whether the refcount at `index` may have `delta` added: it stays within its width. */
export function refcountFits(
  block: BlockBytes,
  { index, order }: { index: number; order: number },
  delta: 1 | -1,
): boolean {
  const value = readRefcount(block, index, order);
  if (delta < 0) return value > 0;
  return value < maxRefcount(order) || (order === 6 && exactRefcount(block, index, order) < 2n ** 64n - 1n);
}

/** Adds to the refcount at `index`, exactly, where it fits; gives the new one, rounded above 2^53. */
export function addToRefcount(
  block: BlockBytes,
  { index, order }: { index: number; order: number },
  delta: 1 | -1,
): number {
  const value = readRefcount(block, index, order) + delta;
  if (value < Number.MAX_SAFE_INTEGER) writeRefcount(block, index, order, value);
  else block.view.setBigUint64(index * 8, exactRefcount(block, index, order) + BigInt(delta));
  return value;
}

/** The refcount at `index`. A 64-bit one above 2^53 comes back rounded, still above 2^53. */
export function readRefcount(block: BlockBytes, index: number, order: number): number {
  switch (order) {
    case 4:
      return block.view.getUint16(index * 2);
    case 3:
      return block.bytes[index] as number;
    case 5:
      return block.view.getUint32(index * 4);
    case 6:
      return block.view.getUint32(index * 8) * 2 ** 32 + block.view.getUint32(index * 8 + 4);
    default: {
      const bit = index << order;
      return ((block.bytes[bit >>> 3] as number) >>> (bit & 7)) & ((1 << (1 << order)) - 1);
    }
  }
}

/** Sets the refcount at `index`; 0 <= value <= maxRefcount(order). */
export function writeRefcount(block: BlockBytes, index: number, order: number, value: number): void {
  switch (order) {
    case 4:
      block.view.setUint16(index * 2, value);
      return;
    case 3:
      block.bytes[index] = value;
      return;
    case 5:
      block.view.setUint32(index * 4, value);
      return;
    case 6:
      block.view.setUint32(index * 8, Math.floor(value / 2 ** 32));
      block.view.setUint32(index * 8 + 4, value >>> 0);
      return;
    default: {
      const bit = index << order;
      const mask = ((1 << (1 << order)) - 1) << (bit & 7);
      const old = block.bytes[bit >>> 3] as number;
      block.bytes[bit >>> 3] = (old & ~mask) | (value << (bit & 7));
    }
  }
}

/** The bytes [from, to) that hold the refcounts `first` … `first + count - 1`. */
export function refcountBytes(first: number, count: number, order: number): { from: number; to: number } {
  const bits = 2 ** order;
  return { from: Math.floor((first * bits) / 8), to: Math.ceil(((first + count) * bits) / 8) };
}

/** A number as C's `%#x` prints it. */
export function hexText(value: number): string {
  return `${value === 0 ? "" : "0x"}${value.toString(16)}`;
}
