// Mutated conversations of an NBD server with our client: handshakes and replies whose bytes, lengths and order are changed end in
// an error of the protocol or in an answer; nothing else is thrown, nothing is waited for that is larger than a limit, and no byte
// is written outside of the memory that a read gave. A failing seed prints the command that replays it.
import { expect, test } from "vitest";
import { BlockError } from "../../src/base/errors.ts";
import { message } from "../../src/wire/nbd/bytes.ts";
import { negotiate, type Step } from "../../src/wire/nbd/client/negotiation.ts";
import { type Awaited, ReplyReader } from "../../src/wire/nbd/client/replies.ts";
import { command, option, optionReply } from "../../src/wire/nbd/constants.ts";
import { encodeExportNameReply, encodeGreeting, encodeOptionReply } from "../../src/wire/nbd/handshake.ts";
import { encodeInformation, encodeMetaContext } from "../../src/wire/nbd/options.ts";
import {
  encodeBlockStatus,
  encodeDataStart,
  encodeDone,
  encodeError,
  encodeHole,
  encodeSimpleReply,
} from "../../src/wire/nbd/transmission.ts";
import { randomness } from "../support/random.ts";

const only = process.env["FUZZ_SEED"];
const COUNT = Number(process.env["FUZZ_COUNT"] ?? 3000);
const MOST_AT_ONCE = 5000;

type Random = (limit: number) => number;

/** Changes, drops, doubles or swaps a few of the messages, or of their bytes. */
function mutated(messages: readonly Uint8Array[], random: Random): Uint8Array {
  const list = messages.map((one) => one.slice());
  for (let left = 1 + random(4); left > 0; left--) {
    const at = random(list.length);
    const one = list[at] ?? new Uint8Array(0);
    const kind = random(8);
    if (kind === 0) list.splice(at, 1);
    else if (kind === 1) list.splice(at, 0, one.slice());
    else if (kind === 2) list[at] = one.subarray(0, random(one.byteLength + 1));
    else if (one.byteLength > 0)
      one[random(one.byteLength)] = [0, 1, 0x7f, 0x80, 0xff, random(256)][random(6)]!;
    if (list.length === 0) break;
  }
  return message(...list);
}

function handshake(random: Random): Uint8Array[] {
  const { ack, info, metaContext, errUnsupported } = optionReply;
  const structured = random(4) > 0;
  const meta = [
    encodeOptionReply(
      option.setMetaContext,
      metaContext,
      encodeMetaContext({ id: 1, name: "base:allocation" }),
    ),
    encodeOptionReply(option.setMetaContext, ack),
  ];
  const exported = encodeInformation({ kind: "export", size: 2 ** random(53), flags: random(4096) });
  const sizes = encodeInformation({ kind: "blockSize", minimum: 512, preferred: 4096, maximum: 2 ** 25 });
  const go = [exported, sizes].map((payload) => encodeOptionReply(option.go, info, payload));
  const named = [
    encodeOptionReply(option.go, errUnsupported),
    encodeExportNameReply({ size: 2 ** random(53), flags: random(4096) }, true),
  ];
  return [
    encodeGreeting(3),
    encodeOptionReply(option.structuredReply, structured ? ack : errUnsupported),
    ...(structured ? meta : []),
    ...(random(3) > 0 ? [...go, encodeOptionReply(option.go, ack)] : named),
  ];
}

/** Goes through a handshake; true if the client agrees. */
function shakeHands(stream: Uint8Array): boolean {
  const steps = negotiate({ exportName: "x", context: "base:allocation", tls: false });
  let at = 0;
  let next: IteratorResult<Step, unknown> = steps.next();
  while (!next.done) {
    const step = next.value;
    let came: Uint8Array = new Uint8Array(0);
    if ("receive" in step) {
      expect(step.receive).toBeLessThan(MOST_AT_ONCE);
      came = stream.slice(at, (at += step.receive));
      if (came.byteLength < step.receive) return false;
    }
    next = steps.next(came);
  }
  return true;
}

function replies(random: Random): Uint8Array[] {
  const last = (cookie: bigint) => ({ cookie, done: true });
  const more = (cookie: bigint) => ({ cookie, done: false });
  const data = new Uint8Array(40).fill(7);
  const all = [
    [message(encodeDataStart(more(1n), 0, 40), data), encodeHole(more(1n), 40, 24), encodeDone(1n)],
    [message(encodeDataStart(last(1n), 0, 64), new Uint8Array(64).fill(7))],
    [encodeError(more(1n), { code: "EIO", text: "no", offset: 3 }), encodeDone(1n)],
    [encodeBlockStatus(last(2n), 1, [{ length: 64, flags: 3 }])],
    [encodeDone(3n)],
    [encodeSimpleReply(3n, "ENOSPC")],
  ];
  return Array.from({ length: 1 + random(4) }, () => all[random(all.length)]!).flat();
}

/** Reads replies in pieces of any size. */
function read(stream: Uint8Array, random: Random): void {
  const memory = new Uint8Array(192).fill(0xee);
  const waiting = new Map<bigint, Awaited>([
    [1n, { type: command.read, offset: 0, length: 64, buffer: memory.subarray(64, 128) }],
    [2n, { type: command.blockStatus, offset: 0, length: 64 }],
    [3n, { type: command.write, offset: 0, length: 512 }],
  ]);
  const asker = {
    find: (cookie: bigint) => waiting.get(cookie),
    finish: (cookie: bigint) => expect(waiting.delete(cookie)).toBe(true),
  };
  const reader = new ReplyReader(asker, { structuredReplies: random(4) > 0, contextId: 1 });
  try {
    for (let at = 0; at < stream.byteLength;) {
      const end = at + 1 + random(50);
      reader.push(stream.slice(at, end));
      at = end;
    }
  } finally {
    const outside = [...memory.subarray(0, 64), ...memory.subarray(128)];
    expect(outside.every((byte) => byte === 0xee)).toBe(true);
  }
}

/** Errors of the protocol are what is wanted. */
function survives(body: () => void): "error" | "fine" {
  try {
    body();
    return "fine";
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    return "error";
  }
}

test("mutated conversations end in an error or an answer", () => {
  const seeds = only === undefined ? Array.from({ length: COUNT }, (_, i) => i) : [Number(only)];
  const ends = { error: 0, fine: 0 };
  for (const seed of seeds) {
    const random = randomness(seed);
    try {
      ends[survives(() => shakeHands(mutated(handshake(random), random)))] += 1;
      ends[survives(() => read(mutated(replies(random), random), random))] += 1;
    } catch (error) {
      throw new Error(
        `replay: FUZZ_SEED=${seed} npx vitest run --project fuzz test/fuzz/nbd-client.test.ts`,
        {
          cause: error,
        },
      );
    }
  }
  if (only !== undefined) return;
  expect(ends.error).toBeGreaterThan(seeds.length / 2);
  expect(ends.fine).toBeGreaterThan(seeds.length / 20);
});
