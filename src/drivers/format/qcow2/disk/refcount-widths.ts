/**
 * Refcounts of 1, 2, 4, 8, 16, 32 or 64 bits in a refcount block. Widths below a byte fill it from the least significant
 * bit; wider ones are big-endian. Pure functions on a block's bytes. Source: qcow2.txt, "Host cluster management".
 */

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
