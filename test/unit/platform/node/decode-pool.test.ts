// Decompressing on threads: what comes of a stream, sound or not, is what Node's own decoders give.
import { readFileSync } from "node:fs";
import * as zlib from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { codecsOf, plainCodecs } from "../../../../src/platform/node/codecs.ts";
import { DecodePool } from "../../../../src/platform/node/decode-pool.ts";
import { Dice } from "../../../../src/sim/dice.ts";

const ways = [
  ["with the system's library", true],
  ["without", false],
] as const;

/** Contents of many kinds: noise, few letters, runs, one byte. */
function content(dice: Dice, bytes: number): Uint8Array {
  const made = new Uint8Array(bytes);
  const kind = dice.below(4);
  if (kind === 0) return made.fill(dice.below(256));
  if (kind === 1) return made.map(() => dice.below(256));
  if (kind === 2) return made.map(() => dice.below(1 + dice.below(12)));
  for (let at = 0; at < bytes;) {
    const end = Math.min(bytes, at + 1 + dice.below(400));
    const from = dice.below(at + 1);
    if (at > 0 && dice.below(2) === 0) for (; at < end; at++) made[at] = made[at - 1 - (from % at)] ?? 0;
    else made.fill(dice.below(40), at, end);
    at = end;
  }
  return made;
}

function deflated(dice: Dice, input: Uint8Array): Uint8Array {
  const { constants } = zlib;
  const strategy = [
    constants.Z_DEFAULT_STRATEGY,
    constants.Z_FIXED,
    constants.Z_HUFFMAN_ONLY,
    constants.Z_RLE,
  ][dice.below(4)]!;
  const how = { level: dice.below(10), memLevel: 1 + dice.below(9), windowBits: 9 + dice.below(7), strategy };
  return zlib.deflateRawSync(input, how);
}

/** What becomes of a stream: the bytes and their count, or the code of the error. */
async function outcome(codecs: typeof plainCodecs, stream: Uint8Array, room: number): Promise<unknown> {
  const output = new Uint8Array(room);
  try {
    const count = await codecs.inflateRaw(stream, output);
    return { count, content: Buffer.from(output.subarray(0, count)).toString("base64") };
  } catch (error) {
    return (error as { code: string }).code;
  }
}

test("the module inflates byte for byte what zlib does, and leaves to it what is damaged", () => {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  const module = new WebAssembly.Module(
    readFileSync(new URL("../../../../build/inflate.wasm", import.meta.url)),
  );
  const exports = new WebAssembly.Instance(module, { env: { memory } }).exports as {
    inflate: (input: number, bytes: number, output: number, room: number) => number;
    dataStart: () => number;
  };
  const area = new Uint8Array(memory.buffer);
  const [input, output] = [exports.dataStart(), exports.dataStart() + 400_000];
  const dice = new Dice(5);
  const inflate = (stream: Uint8Array, room: number): Uint8Array | undefined => {
    area.set(stream, input);
    area.fill(0xee, output + room, output + room + 512);
    const count = exports.inflate(input, stream.byteLength, output, room);
    expect(count).toBeLessThanOrEqual(room);
    return count < 0 ? undefined : area.slice(output, output + count);
  };
  for (let times = 0; times < 250; times++) {
    const plain = content(dice, 1 + dice.below(70_000));
    const stream = deflated(dice, plain);
    // Sound streams are never left to others: this is what is fast about it.
    expect(Buffer.compare(inflate(stream, plain.byteLength)!, plain)).toBe(0);
    const room = 1 + dice.below(plain.byteLength);
    expect(Buffer.compare(inflate(stream, room) ?? plain.subarray(0, room), plain.subarray(0, room))).toBe(0);
    const cut = inflate(stream.subarray(0, dice.below(stream.byteLength)), plain.byteLength);
    expect(cut === undefined || cut.byteLength < plain.byteLength || Buffer.compare(cut, plain) === 0).toBe(
      true,
    );
  }
});

describe.each(ways)("on threads, %s", (_way, native) => {
  const pool = new DecodePool({ burst: 1, threads: 2, native });
  const threads = codecsOf(pool);
  afterAll(() => pool.end());

  test.each([1, 2, 3])(
    "streams at once, some of them damaged or cut, come as by Node's own (seed %d)",
    async (seed) => {
      const dice = new Dice(seed);
      const streams = Array.from({ length: 120 }, () => {
        const plain = content(dice, 1 + dice.below(65_536));
        const stream = deflated(dice, plain);
        const fate = dice.below(4);
        if (fate === 0) stream[dice.below(stream.byteLength)]! ^= 1 << dice.below(8);
        const room = fate === 1 ? 1 + dice.below(2 * plain.byteLength) : plain.byteLength;
        return { stream: fate === 2 ? stream.subarray(0, dice.below(stream.byteLength)) : stream, room };
      });
      const got = await Promise.all(streams.map(({ stream, room }) => outcome(threads, stream, room)));
      for (const [index, { stream, room }] of streams.entries())
        expect(got[index]).toEqual(await outcome(plainCodecs, stream, room));
    },
  );

  test("nothing that is sound goes the other way once the threads are there", async () => {
    const dice = new Dice(11);
    let others = 0;
    const otherwise = (): Promise<number> => Promise.resolve(-(others += 1));
    for (const format of ["deflate", "zstd"] as const) {
      const plain = content(dice, 50_000);
      const frame = await plainCodecs.compressZstd(plain, 2 * plain.byteLength);
      const stream = format === "deflate" ? deflated(dice, plain) : frame!;
      const outputs = Array.from({ length: 30 }, () => new Uint8Array(plain.byteLength));
      const counts = await Promise.all(
        outputs.map((output) => pool.decode(format, stream, { output, otherwise })),
      );
      expect(new Set(counts)).toEqual(new Set([plain.byteLength]));
      expect(outputs.every((output) => Buffer.compare(output, plain) === 0)).toBe(true);
    }
    expect(others).toBe(0);
    expect(await pool.decode("deflate", Uint8Array.of(7), { output: new Uint8Array(9), otherwise })).toBe(-1);
  });

  test("zstd frames come whole, and damaged ones are refused", async () => {
    const dice = new Dice(9);
    const plain = Array.from({ length: 40 }, () => content(dice, 4096 + dice.below(60_000)));
    const frames = await Promise.all(
      plain.map(async (bytes) => (await plainCodecs.compressZstd(bytes, 2 * bytes.byteLength + 64))!),
    );
    const outputs = plain.map((bytes) => new Uint8Array(bytes.byteLength));
    const counts = await Promise.all(
      frames.map((frame, index) => threads.decompressZstd(frame, outputs[index]!)),
    );
    expect(counts).toEqual(plain.map((bytes) => bytes.byteLength));
    expect(outputs.every((output, index) => Buffer.compare(output, plain[index]!) === 0)).toBe(true);
    const small = new Uint8Array(16);
    await expect(threads.decompressZstd(frames[0]!, small)).rejects.toMatchObject({ code: "EIO" });
    const damaged = Uint8Array.from(frames[0]!).fill(0xff, 8);
    await expect(threads.decompressZstd(damaged, outputs[0]!)).rejects.toMatchObject({ code: "EIO" });
  });

  test("what a thread has when it ends, and what fits in none, is decompressed all the same", async () => {
    const own = new DecodePool({ burst: 1, threads: 1, native });
    const codecs = codecsOf(own);
    const dice = new Dice(3);
    const plain = content(dice, 60_000);
    const stream = deflated(dice, plain);
    const one = (): Promise<unknown> => outcome(codecs, stream, plain.byteLength);
    const right = await outcome(plainCodecs, stream, plain.byteLength);
    expect(await one()).toEqual(right);
    const many = Array.from({ length: 50 }, one);
    await new Promise((resolve) => setImmediate(resolve));
    own.end();
    expect(await Promise.all(many)).toEqual(many.map(() => right));
    // It begins anew, and a disk's largest cluster is no trouble.
    const large = content(dice, 9 * 2 ** 20);
    const output = new Uint8Array(large.byteLength);
    expect(await codecs.inflateRaw(zlib.deflateRawSync(large), output)).toBe(large.byteLength);
    expect(Buffer.compare(output, large)).toBe(0);
    expect(await one()).toEqual(right);
    own.end();
  });
});
