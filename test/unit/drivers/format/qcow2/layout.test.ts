// Table entries and the sizes that follow from the header.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  compressedEntry,
  compressedExtent,
  COPIED_HIGH,
  entryKind,
  entryOffset,
  Kind,
  makeGeometry,
  readU64,
  writeEntry,
  writeU64,
} from "../../../../../src/drivers/format/qcow2/disk/layout.ts";

test("an entry gives back the offset that was written, whatever its flags", () => {
  const view = new DataView(new ArrayBuffer(8));
  fc.assert(
    fc.property(fc.nat(2 ** 31 - 1), fc.nat(2 ** 12), fc.boolean(), (low, high, copied) => {
      const offset = (high * 2 ** 31 + low) * 512;
      writeEntry(view, 0, offset, copied ? COPIED_HIGH : 0);
      expect(entryOffset(view.getUint32(0), view.getUint32(4))).toBe(offset);
      expect(view.getUint32(0) >>> 31).toBe(copied ? 1 : 0);
    }),
  );
});

test("kinds of entries", () => {
  expect(entryKind(0, 0)).toBe(Kind.unallocated);
  expect(entryKind(COPIED_HIGH, 0x10000)).toBe(Kind.normal);
  expect(entryKind(0x00000001, 0)).toBe(Kind.normal);
  expect(entryKind(0, 1)).toBe(Kind.zeroPlain);
  expect(entryKind(COPIED_HIGH, 0x10001)).toBe(Kind.zeroAllocated);
  expect(entryKind(0x40000000, 0x10001)).toBe(Kind.compressed);
});

test("a compressed entry covers the stream up to the end of its last sector, for every cluster size", () => {
  fc.assert(
    fc.property(fc.integer({ min: 9, max: 21 }), fc.nat(2 ** 30), fc.nat(2 ** 21), (bits, offset, size) => {
      const bytes = 1 + (size % (2 ** bits - 1));
      const [high, low] = compressedEntry({ offset, bytes }, bits);
      expect(entryKind(high, low)).toBe(Kind.compressed);
      const extent = compressedExtent(high, low, bits);
      expect(extent.offset).toBe(offset);
      expect(extent.bytes).toBeGreaterThanOrEqual(bytes);
      expect((extent.offset + extent.bytes) % 512).toBe(0);
      expect(extent.bytes - bytes).toBeLessThan(512);
    }),
  );
});

test("u64 fields", () => {
  const view = new DataView(new ArrayBuffer(8));
  for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    writeU64(view, 0, value);
    expect(view.getBigUint64(0)).toBe(BigInt(value));
    expect(readU64(view, 0)).toBe(value);
  }
});

test("sizes that follow from the header", () => {
  const geometry = makeGeometry(16, 4);
  expect(geometry.l2Coverage).toBe(512 * 2 ** 20);
  expect(geometry.blockEntries).toBe(32768);
  expect(makeGeometry(21, 0).blockEntries).toBe(2 ** 24);
  expect(makeGeometry(21, 4).sliceBytes).toBe(65536);
  expect(makeGeometry(9, 4).sliceEntries).toBe(64);
});
