// The end of a zstd frame, and frames that claim more than a cluster may hold.
import { expect, test } from "vitest";
import { zstdFrameBytes } from "../../../../../src/drivers/format/qcow2/disk/zstd-frame.ts";

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];
/** A last raw block of two bytes. */
const LAST = [0x11, 0, 0, 7, 8];
const MOST = 65536;

test.each([
  ["a single segment", [...MAGIC, 0x20, 2, ...LAST], 11],
  ["a window", [...MAGIC, 0x00, 0x40, ...LAST], 11],
  ["a checksum", [...MAGIC, 0x24, 2, ...LAST, 1, 2, 3, 4], 15],
  ["a content size of two bytes", [...MAGIC, 0x60, 0, 1, ...LAST], 12],
  ["two blocks, the first a run", [...MAGIC, 0x20, 9, 0x3a, 0, 0, 5, ...LAST], 15],
])("%s, with junk behind it", (_what, frame, bytes) => {
  expect(zstdFrameBytes(Uint8Array.from([...frame, 0x28, 0xb5, 0x2f, 0xfd, 9]), MOST)).toBe(bytes);
});

test.each([
  ["no magic", [0x28, 0xb5, 0x2f, 0xfc, 0x20, 2, ...LAST]],
  ["a reserved bit", [...MAGIC, 0x28, 2, ...LAST]],
  ["a dictionary", [...MAGIC, 0x21, 1, 2, ...LAST]],
  ["a huge window", [...MAGIC, 0x00, 0xf8, ...LAST]],
  ["a huge content", [...MAGIC, 0xe0, 0, 0, 0, 0, 0, 0, 0, 1, ...LAST]],
  ["a reserved block", [...MAGIC, 0x20, 2, 0x17, 0, 0, 7, 8]],
  ["a huge run", [...MAGIC, 0x20, 2, 0xfb, 0xff, 0xff, 7]],
  ["an end in the block", [...MAGIC, 0x20, 2, 0x11, 0, 0, 7]],
  ["an end before the checksum", [...MAGIC, 0x24, 2, ...LAST]],
  ["no last block", [...MAGIC, 0x20, 2, 0x10, 0, 0, 7, 8]],
  ["nothing", []],
])("%s is refused", (_what, frame) => {
  expect(() => zstdFrameBytes(Uint8Array.from(frame), MOST)).toThrow("a compressed cluster is damaged");
});
