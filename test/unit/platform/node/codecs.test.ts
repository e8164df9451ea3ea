// Raw DEFLATE as qcow2 needs it: output bounded, trailing input ignored.
import * as zlib from "node:zlib";
import { describe, expect, test } from "vitest";
import { codecsOf, plainCodecs } from "../../../../src/platform/node/codecs.ts";
import { DecodePool } from "../../../../src/platform/node/decode-pool.ts";
import { pattern } from "./support.ts";

const cluster = pattern(65_536);
const deflated = new Uint8Array(zlib.deflateRawSync(cluster));

function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

const ways = [
  ["by Node's own", plainCodecs],
  ["on threads", codecsOf(new DecodePool({ burst: 1 }))],
] as const;

describe.each(ways)("inflateRaw %s", (_way, nodeCodecs) => {
  test("fills the output exactly, with junk behind the stream", async () => {
    const output = new Uint8Array(65_536);
    expect(await nodeCodecs.inflateRaw(joined(deflated, pattern(511, 3)), output)).toBe(65_536);
    expect(Buffer.compare(output, cluster)).toBe(0);
  });

  test("stops when the output is full", async () => {
    for (const bytes of [1, 63, 4096, 65_535]) {
      const output = new Uint8Array(bytes);
      expect(await nodeCodecs.inflateRaw(deflated, output)).toBe(bytes);
      expect(Buffer.compare(output, cluster.subarray(0, bytes))).toBe(0);
    }
  });

  test("counts what a stream that ends early holds", async () => {
    const output = new Uint8Array(131_072);
    expect(await nodeCodecs.inflateRaw(deflated, output)).toBe(65_536);
    const half = await nodeCodecs.inflateRaw(deflated.subarray(0, deflated.length >> 1), output);
    expect(half).toBeLessThan(65_536);
  });

  test("refuses what is no DEFLATE stream", async () => {
    await expect(
      nodeCodecs.inflateRaw(new Uint8Array(64).fill(0xff), new Uint8Array(64)),
    ).rejects.toMatchObject({ name: "BlockError", code: "EIO" });
  });
});

describe("deflateRaw", () => {
  const nodeCodecs = plainCodecs;

  test("gives a stream of a 4 KiB window that inflates to the input", async () => {
    const result = await nodeCodecs.deflateRaw(cluster, cluster.byteLength);
    expect(result?.byteLength).toBeLessThan(65_536);
    const back = zlib.inflateRawSync(result ?? new Uint8Array(), { windowBits: 12 });
    expect(Buffer.compare(back, cluster)).toBe(0);
  });

  test("says undefined when the result would not be smaller than the limit", async () => {
    const exact = (await nodeCodecs.deflateRaw(cluster, cluster.byteLength))?.byteLength ?? 0;
    expect(await nodeCodecs.deflateRaw(cluster, exact)).toBeUndefined();
    expect(await nodeCodecs.deflateRaw(cluster, exact + 1)).toHaveLength(exact);
    expect(await nodeCodecs.deflateRaw(cluster, 0)).toBeUndefined();
  });
});
