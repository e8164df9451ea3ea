// Refcounts of every width in a block.
import { expect, test } from "vitest";
import {
  maxRefcount,
  readRefcount,
  refcountBytes,
  writeRefcount,
} from "../../../../../src/drivers/format/qcow2/disk/layout.ts";

function block(): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(512);
  return { bytes, view: new DataView(bytes.buffer) };
}

for (const order of [0, 1, 2, 3, 4, 5, 6]) {
  test(`refcounts of ${2 ** order} bits keep their neighbours`, () => {
    const own = block();
    const entries = (512 * 8) / 2 ** order;
    const max = maxRefcount(order);
    const values = Array.from({ length: entries }, (_, index) => (index * 7919) % (Math.min(max, 65535) + 1));
    for (const [index, value] of values.entries()) writeRefcount(own, index, order, value);
    for (const [index, value] of values.entries()) expect(readRefcount(own, index, order)).toBe(value);
    writeRefcount(own, 5, order, max);
    expect(readRefcount(own, 5, order)).toBe(max);
    expect(readRefcount(own, 4, order)).toBe(values[4]);
    expect(readRefcount(own, 6, order)).toBe(values[6]);
    const { from, to } = refcountBytes(5, 1, order);
    expect(to).toBeGreaterThan(from);
    expect(from * 8).toBeLessThanOrEqual(5 * 2 ** order);
  });
}

test("widths below a byte fill it from the least significant bit; wider ones are big-endian", () => {
  const small = block();
  writeRefcount(small, 1, 0, 1);
  writeRefcount(small, 3, 1, 2);
  expect(small.bytes[0]).toBe(0b10000010);
  const wide = block();
  writeRefcount(wide, 1, 4, 0x0102);
  writeRefcount(wide, 1, 6, 0x0102030405);
  expect([...wide.bytes.subarray(2, 4)]).toEqual([1, 2]);
  expect([...wide.bytes.subarray(8, 16)]).toEqual([0, 0, 0, 1, 2, 3, 4, 5]);
});
