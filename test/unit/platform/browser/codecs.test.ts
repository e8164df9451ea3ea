// The codecs by compression streams; in Node 20 and in Chromium, which differ about bytes behind the end of the stream.
import { describe, expect, it } from "vitest";
import { streamCodecs } from "../../../../src/platform/browser/codecs.ts";
import { zstdFrame } from "../../../support/content.ts";
import { pattern, same } from "../../support/graph.ts";

describe("raw DEFLATE by streams", () => {
  it("gives back what it packed, and ignores what follows the end", async () => {
    const data = pattern(65536, 3);
    const packed = await streamCodecs.deflateRaw(data, data.byteLength);
    expect(packed!.byteLength).toBeLessThan(10_000);
    const sectors = new Uint8Array(Math.ceil(packed!.byteLength / 512) * 512 + 512).fill(0xee);
    sectors.set(packed!);
    const out = new Uint8Array(65536);
    expect(await streamCodecs.inflateRaw(sectors, out)).toBe(65536);
    expect(same(out, data)).toBe(true);
  });

  it("stops when the output is full", async () => {
    const data = pattern(65536, 3);
    const packed = await streamCodecs.deflateRaw(data, data.byteLength);
    const out = new Uint8Array(1000);
    expect(await streamCodecs.inflateRaw(packed!, out)).toBe(1000);
    expect(same(out, data.subarray(0, 1000))).toBe(true);
  });

  it("says when packing does not pay", async () => {
    expect(await streamCodecs.deflateRaw(pattern(65536, 3), 20)).toBeUndefined();
  });

  it("fails with EIO on input that is no DEFLATE", async () => {
    const garbage = new Uint8Array(4096).fill(0xff);
    await expect(streamCodecs.inflateRaw(garbage, new Uint8Array(65536))).rejects.toMatchObject({
      code: "EIO",
    });
  });
});

describe("zstd by a package", () => {
  const frame = Uint8Array.from(atob(zstdFrame), (letter) => letter.charCodeAt(0));

  it("unpacks a frame", async () => {
    const out = new Uint8Array(65536);
    expect(await streamCodecs.decompressZstd!(frame, out)).toBe(65536);
    expect(same(out, pattern(65536, 3))).toBe(true);
  });

  it("fails with EIO on what is none, or is longer than it may be", async () => {
    const garbage = frame.slice().fill(0xff, 0, 8);
    await expect(streamCodecs.decompressZstd!(garbage, new Uint8Array(65536))).rejects.toMatchObject({
      code: "EIO",
    });
    await expect(streamCodecs.decompressZstd!(frame, new Uint8Array(1000))).rejects.toMatchObject({
      code: "EIO",
    });
  });
});
