/** Replies in pieces of any size: what comes out, and every breach of the protocol. Coverage against a model of bytes. */
import { describe, expect, it } from "vitest";
import { Coverage } from "../../../../../src/wire/nbd/client/coverage.ts";
import { type Awaited, type Reply, ReplyReader } from "../../../../../src/wire/nbd/client/replies.ts";
import { message } from "../../../../../src/wire/nbd/bytes.ts";
import { chunk, CHUNK_MAGIC, command } from "../../../../../src/wire/nbd/constants.ts";
import {
  encodeBlockStatus,
  encodeDataStart,
  encodeDone,
  encodeError,
  encodeHole,
  encodeSimpleReply,
} from "../../../../../src/wire/nbd/transmission.ts";
import { randomness } from "../../../../support/random.ts";

const CONTEXT = 5;

/** A reader with requests 1 (read of 64 at 1000), 2 (write), 3 (block status of 64 at 1000), and what became of them. */
function bench(structuredReplies = true): {
  reader: ReplyReader;
  buffer: Uint8Array;
  told: Map<bigint, Reply>;
} {
  const buffer = new Uint8Array(64).fill(0xee);
  const waiting = new Map<bigint, Awaited>([
    [1n, { type: command.read, offset: 1000, length: 64, buffer }],
    [2n, { type: command.write, offset: 0, length: 512 }],
    [3n, { type: command.blockStatus, offset: 1000, length: 64 }],
  ]);
  const told = new Map<bigint, Reply>();
  const asker = {
    find: (cookie: bigint) => waiting.get(cookie),
    finish: (cookie: bigint, reply: Reply) => {
      waiting.delete(cookie);
      told.set(cookie, reply);
    },
  };
  return { reader: new ReplyReader(asker, { structuredReplies, contextId: CONTEXT }), buffer, told };
}

const more = (cookie: bigint) => ({ cookie, done: false });
const last = (cookie: bigint) => ({ cookie, done: true });
const data = (place: { cookie: bigint; done: boolean }, offset: number, bytes: Uint8Array): Uint8Array =>
  message(encodeDataStart(place, offset, bytes.byteLength), bytes);
const pattern = Uint8Array.from({ length: 64 }, (_, i) => i);

describe.each([1, 2, 7, 19, 1000])("in pieces of %i bytes", (size) => {
  const feed = (reader: ReplyReader, ...messages: Uint8Array[]): void => {
    const stream = message(...messages);
    for (let at = 0; at < stream.byteLength; at += size) reader.push(stream.slice(at, at + size));
  };

  it("chunks in any order fill a read, between other replies", () => {
    const { reader, buffer, told } = bench();
    feed(
      reader,
      data(more(1n), 1040, pattern.subarray(40)),
      encodeBlockStatus(last(3n), CONTEXT, [
        { length: 32, flags: 3 },
        { length: 32, flags: 0 },
      ]),
      encodeHole(more(1n), 1000, 8),
      encodeDone(2n),
      data(last(1n), 1008, pattern.subarray(8, 40)),
    );
    const expected = pattern.slice();
    expected.fill(0, 0, 8);
    expect(buffer).toEqual(expected);
    expect(told).toEqual(
      new Map<bigint, Reply>([
        [3n, { extent: { length: 32, flags: 3 } }],
        [2n, {}],
        [1n, {}],
      ]),
    );
    expect(reader.state).toBe("REPLY.START");
  });

  it("errors are told with the server's text, also beside data", () => {
    const { reader, told } = bench();
    feed(
      reader,
      data(more(1n), 1000, pattern.subarray(0, 10)),
      encodeError(more(1n), { code: "EIO", text: "bad disk", offset: 1010 }),
      encodeDone(1n),
      encodeError(last(2n), { code: "ENOSPC" }),
      message([32, CHUNK_MAGIC], [16, 1], [16, 0x80ff], [64, 3n], [32, 6], [32, 22], [16, 0]),
    );
    expect(told.get(1n)).toEqual({ error: "EIO", text: "bad disk" });
    expect(told.get(2n)).toEqual({ error: "ENOSPC" });
    expect(told.get(3n)).toEqual({ error: "EINVAL" });
  });

  it("simple replies carry a read's data after them", () => {
    const { reader, buffer, told } = bench(false);
    feed(reader, encodeSimpleReply(2n, "EPERM"), encodeSimpleReply(1n), pattern);
    expect(buffer).toEqual(pattern);
    expect(told.get(2n)).toEqual({ error: "EPERM" });
    expect(told.get(1n)).toEqual({});
  });
});

describe("a breach", () => {
  const header = (flags: number, type: number, cookie: bigint, length: number): Uint8Array =>
    message([32, CHUNK_MAGIC], [16, flags], [16, type], [64, cookie], [32, length]);
  const breaches: [string, RegExp, Uint8Array[], boolean?][] = [
    ["no magic", /invalid magic/, [new Uint8Array(16)]],
    ["a cookie that nobody has", /not sent \(cookie 9\)/, [encodeSimpleReply(9n)]],
    ["a chunk for nobody", /not sent \(cookie 9\)/, [encodeDone(9n)]],
    ["a second reply", /not sent \(cookie 2\)/, [encodeDone(2n), encodeDone(2n)]],
    ["a simple reply to a read", /simple reply when structured/, [encodeSimpleReply(1n)]],
    ["a simple reply to a block status", /simple reply when structured/, [encodeSimpleReply(3n)]],
    [
      "a simple reply amid chunks",
      /within a structured one/,
      [encodeHole(more(1n), 1000, 4), encodeSimpleReply(1n)],
    ],
    ["a chunk that was not agreed on", /only simple replies/, [encodeDone(2n)], false],
    ["data before the read", /exceeding requested region/, [data(last(1n), 999, pattern.subarray(0, 4))]],
    ["data behind the read", /exceeding requested region/, [data(last(1n), 1062, pattern.subarray(0, 4))]],
    ["more data than asked for", /invalid payload length/, [header(1, chunk.offsetData, 1n, 73)]],
    ["no data", /invalid payload length/, [header(1, chunk.offsetData, 1n, 8)]],
    [
      "data twice",
      /overlapping/,
      [encodeHole(more(1n), 1000, 8), data(last(1n), 1004, pattern.subarray(0, 8))],
    ],
    ["missing data", /lacks a part/, [data(last(1n), 1000, pattern.subarray(0, 63))]],
    ["a long hole", /exceeding requested region/, [encodeHole(last(1n), 1000, 65)]],
    ["an empty hole", /hole of no length/, [encodeHole(more(1n), 1000, 0)]],
    [
      "data for a write",
      /Unexpected reply type: 1 \(data\) for 1 \(write\)/,
      [header(1, chunk.offsetData, 2n, 20)],
    ],
    [
      "status for a read",
      /Unexpected reply type: 5/,
      [encodeBlockStatus(last(1n), CONTEXT, [{ length: 1, flags: 0 }])],
    ],
    ["an unknown chunk", /Unexpected reply type: 99 \(<unknown>\)/, [header(1, 99, 1n, 0)]],
    ["an endless error", /invalid payload length/, [header(1, chunk.error, 2n, 0xffffffff)]],
    ["an error that is none", /error = 0/, [header(1, chunk.error, 2n, 6), new Uint8Array(6)]],
    ["an endless status", /invalid payload length/, [header(1, chunk.blockStatus, 3n, 0xfffffffc)]],
    [
      "another context",
      /unexpected context id 6/,
      [encodeBlockStatus(last(3n), 6, [{ length: 1, flags: 0 }])],
    ],
    ["an empty extent", /zero length/, [encodeBlockStatus(last(3n), CONTEXT, [{ length: 0, flags: 0 }])]],
    ["no extent", /status extents/, [encodeDone(3n)]],
    [
      "two statuses",
      /Several BLOCK_STATUS/,
      [
        encodeBlockStatus(more(3n), CONTEXT, [{ length: 1, flags: 0 }]),
        encodeBlockStatus(last(3n), CONTEXT, [{ length: 1, flags: 0 }]),
      ],
    ],
    ["a nothing that is not the last", /invalid payload length/, [header(0, chunk.none, 2n, 0)]],
  ];

  it.each(breaches)("%s is told", (_what, words, messages, structured = true) => {
    const { reader } = bench(structured);
    expect(() => reader.push(message(...messages))).toThrow(words);
  });
});

describe("coverage", () => {
  it("agrees with a model of bytes", () => {
    const random = randomness(3);
    for (let round = 0; round < 300; round++) {
      const coverage = new Coverage();
      const model = new Uint8Array(40);
      for (let step = 0; step < 30; step++) {
        const start = random(38);
        const bytes = 1 + random(Math.min(6, 40 - start));
        const isNew = model.subarray(start, start + bytes).every((byte) => byte === 0);
        expect(coverage.add(start, bytes), `round ${round}: ${start}+${bytes}`).toBe(isNew);
        if (!isNew) break;
        model.fill(1, start, start + bytes);
        expect(coverage.bytes).toBe(model.reduce((sum, byte) => sum + byte, 0));
      }
    }
  });

  it("is bounded", () => {
    const coverage = new Coverage();
    expect(() => {
      for (let at = 0; at < 2 ** 20; at += 2) coverage.add(at, 1);
    }).toThrow("too many pieces");
  });
});

describe("data that is put where it belongs", () => {
  const LONG = 100_000;
  const bytes = Uint8Array.from({ length: LONG }, (_, i) => i * 7);

  /** A reader with a read of LONG bytes at 0, and what became of it. */
  function long(structuredReplies: boolean): { reader: ReplyReader; buffer: Uint8Array; told: Reply[] } {
    const buffer = new Uint8Array(LONG);
    const told: Reply[] = [];
    const request = { type: command.read, offset: 0, length: LONG, buffer };
    const asker = { find: () => request, finish: (_: bigint, reply: Reply) => void told.push(reply) };
    return { reader: new ReplyReader(asker, { structuredReplies, contextId: undefined }), buffer, told };
  }

  it.each([true, false])("in parts, until little is left (structured: %s)", (structured) => {
    const { reader, buffer, told } = long(structured);
    expect(reader.place()).toBeUndefined();
    reader.push(structured ? encodeDataStart(last(1n), 0, LONG) : encodeSimpleReply(1n));
    for (let at = 0; at < 30_000; at += 10_000) {
      const place = reader.place()!;
      expect(place.byteLength).toBe(LONG - at);
      place.set(bytes.subarray(at, at + 10_000));
      reader.placed(10_000);
    }
    reader.push(bytes.subarray(30_000, 40_000));
    expect(reader.place()).toBeUndefined();
    reader.push(bytes.subarray(40_000));
    expect(told).toEqual([{}]);
    expect(buffer).toEqual(bytes);
    expect(reader.state).toBe("REPLY.START");
  });

  it("to its end at once", () => {
    const { reader, buffer, told } = long(true);
    reader.push(encodeDataStart(last(1n), 0, LONG));
    reader.place()!.set(bytes);
    reader.placed(LONG);
    expect(told).toEqual([{}]);
    expect(buffer).toEqual(bytes);
  });

  it("never for what is no data", () => {
    const { reader } = long(true);
    reader.push(encodeDataStart(last(1n), 0, LONG).subarray(0, 20));
    expect(reader.place()).toBeUndefined();
  });
});
