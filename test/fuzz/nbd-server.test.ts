// Mutated conversations of clients with our NBD server, and connections that break off at any byte: whatever is said, the server
// answers, refuses or ends that one connection. Nobody else notices: another client's disk and a guest's job go on, nothing is broken in
// here, no memory stays taken, no client stays. A failing seed prints the command that replays it.
import { expect, test } from "vitest";
import { limits } from "../../src/base/limits.ts";
import { message } from "../../src/wire/nbd/bytes.ts";
import { command, option } from "../../src/wire/nbd/constants.ts";
import { encodeClientFlags, encodeOption } from "../../src/wire/nbd/handshake.ts";
import { encodeInfoRequest, encodeMetaRequest } from "../../src/wire/nbd/options.ts";
import { encodeRequest } from "../../src/wire/nbd/transmission.ts";
import { randomness } from "../support/random.ts";
import { MiB, pattern, same } from "../unit/support/graph.ts";
import { NbdBench } from "../unit/server/nbd/bench.ts";

const only = process.env["FUZZ_SEED"];
const COUNT = Number(process.env["FUZZ_COUNT"] ?? 600);

type Random = (limit: number) => number;

const commands = [...Object.values(command), 77];

function handshake(random: Random): Uint8Array[] {
  const name = random(8) === 0 ? "nobody" : "f";
  const asked = { name, queries: ["base:allocation", "qemu:", "x:y"].slice(0, 1 + random(3)) };
  const wanted = [3].slice(random(2));
  const options = [
    encodeOption(option.structuredReply),
    encodeOption(option.list),
    encodeOption(option.listMetaContext, encodeMetaRequest(asked)),
    encodeOption(option.setMetaContext, encodeMetaRequest(asked)),
    encodeOption(option.info, encodeInfoRequest({ name, wanted })),
    encodeOption(option.startTls),
    encodeOption(99, new Uint8Array(random(64))),
  ];
  const some = Array.from({ length: random(5) }, () => options[random(options.length)]!);
  return [
    encodeClientFlags(random(10) === 0 ? random(256) : 3),
    encodeOption(option.structuredReply),
    ...some,
    encodeOption(option.go, encodeInfoRequest({ name, wanted })),
  ];
}

function requests(random: Random): Uint8Array[] {
  return Array.from({ length: random(8) }, (_, i) => {
    const type = commands[random(commands.length)]!;
    const length = random(6) === 0 ? random(2 ** 31) : random(128 * 1024);
    const offset = random(8) === 0 ? random(2 ** 31) : random(MiB);
    const header = encodeRequest({
      type,
      flags: random(4) === 0 ? random(64) : 0,
      offset,
      length,
      cookie: BigInt(i),
    });
    return type === command.write && length <= 128 * 1024
      ? message(header, new Uint8Array(length).fill(1))
      : header;
  });
}

/** What a client sends: a conversation of which some bytes or messages are changed, or cut off. */
function conversation(random: Random): Uint8Array {
  const list = [...handshake(random), ...requests(random)].map((one) => one.slice());
  for (let left = random(2) * random(4); left > 0 && list.length > 0; left--) {
    const at = random(list.length);
    const one = list[at]!;
    const kind = random(8);
    if (kind === 0) list.splice(at, 1);
    else if (kind === 1) list.splice(at, 0, one.slice());
    else if (kind === 2) list[at] = one.subarray(0, random(one.byteLength + 1));
    else if (one.byteLength > 0)
      one[random(one.byteLength)] = [0, 1, 0x7f, 0x80, 0xff, random(256)][random(6)]!;
  }
  const whole = message(...list);
  return random(3) === 0 ? whole.subarray(0, random(whole.byteLength + 1)) : whole;
}

/** Says it in pieces and goes: by a close, which lets what was sent arrive, or at once, with answers unread. */
async function speak(bench: NbdBench, random: Random): Promise<void> {
  const client = bench.dial();
  const bytes = conversation(random);
  const reading = random(4) === 0 ? undefined : client.ended().catch(() => undefined);
  for (let at = 0; at < bytes.byteLength;) {
    const end = Math.min(bytes.byteLength, at + 1 + random(64 * 1024));
    // Who does not read, or was dropped, is not heard any more at some point, and goes.
    const said = client.say(bytes.subarray(at, end)).catch(() => undefined);
    await Promise.race([said, reading ?? bench.host.clock.idle()]);
    at = end;
  }
  if (random(2) === 0) client.connection.abort?.();
  else await Promise.race([client.connection.close(), bench.host.clock.idle()]);
  client.connection.abort?.();
  await reading;
}

test("mutated conversations and broken connections harm nobody else", async () => {
  const seeds = only === undefined ? Array.from({ length: COUNT }, (_, i) => i) : [Number(only)];
  const bench = await NbdBench.start({ maxConnections: 0 });
  await bench.disk("f", MiB);
  await bench.export("f");
  await bench.disk("g", MiB);
  await bench.export("g");
  const good = await bench.client("g", ["base:allocation"]);
  for (const seed of seeds) {
    try {
      await speak(bench, randomness(seed));
      const data = pattern(4096, seed);
      const offset = (seed % 256) * 4096;
      expect((await good.does({ type: command.write, offset }, data)).error).toBeUndefined();
      const back = await good.does({ type: command.read, offset, length: 4096 });
      expect(back.data.map(({ bytes }) => same(bytes, data))).toEqual([true]);
      expect(bench.server.memoryBytes).toBeLessThanOrEqual(limits.nbdServerBytes);
      expect(bench.faults).toEqual([]);
    } catch (error) {
      const replay = `FUZZ_SEED=${seed} npx vitest run --project fuzz test/fuzz/nbd-server.test.ts`;
      throw new Error(`replay: ${replay}`, { cause: error });
    }
  }
  // Some of them got as far as writing.
  const witness = await bench.client("f");
  const { data } = await witness.does({ type: command.read, length: MiB });
  if (only === undefined) expect(data[0]!.bytes).toContain(1);
  await witness.request({ type: command.disconnect });
  for (let tries = 0; bench.server.clients > 1 && tries < 1000; tries++) await bench.host.clock.turn();
  expect(bench.server.clients).toBe(1);
  await good.request({ type: command.disconnect });
  for (let tries = 0; bench.server.clients > 0 && tries < 1000; tries++) await bench.host.clock.turn();
  await bench.exports.remove("f", "safe");
  await bench.exports.remove("g", "safe");
  for (const node of ["f", "g"]) expect(bench.graph.node(node).parents.size).toBe(0);
  bench.check();
});
