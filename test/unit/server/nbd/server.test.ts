/** Clients as a crowd: how many, how they go away, what they may hold; exports and servers that end under them. */
import { describe, expect, it } from "vitest";
import { limits } from "../../../../src/base/limits.ts";
import { createDirtyBitmap } from "../../../../src/block/model/dirty-bitmap.ts";
import { ServerMemory } from "../../../../src/server/nbd/memory.ts";
import { message } from "../../../../src/wire/nbd/bytes.ts";
import { command, option } from "../../../../src/wire/nbd/constants.ts";
import { encodeClientFlags, encodeOption } from "../../../../src/wire/nbd/handshake.ts";
import { encodeInfoRequest } from "../../../../src/wire/nbd/options.ts";
import { encodeRequest } from "../../../../src/wire/nbd/transmission.ts";
import { KiB, MiB, pattern, same } from "../../support/graph.ts";
import { NbdBench, wordsOf } from "./bench.ts";

async function bench(options: Parameters<typeof NbdBench.start>[0] = {}): Promise<NbdBench> {
  const made = await NbdBench.start(options);
  await made.disk("d", MiB);
  return made;
}

/** Nobody is there any more, and nothing is held. */
async function expectQuiet(made: NbdBench): Promise<void> {
  for (let tries = 0; made.server.clients > 0 && tries < 50; tries++) await made.host.clock.turn();
  expect(made.server.clients).toBe(0);
  made.check();
}

describe("clients", () => {
  it("beyond the number wait, and are greeted when another one has gone", async () => {
    const made = await bench({ maxConnections: 1 });
    await made.export("d");
    const first = await made.client("d");
    const second = made.dial();
    const greeted = second.greet();
    await made.host.clock.idle();
    expect(made.server.clients).toBe(1);
    await first.request({ type: command.disconnect });
    expect(await greeted).toBe(3);
    await second.go("d");
  });

  it("share an export only where several may be there: multi-conn says so", async () => {
    const flagsOf = async (made: NbdBench): Promise<number> => {
      await made.export("d");
      const client = made.dial();
      await client.greet();
      const last = (await client.go("d")).at(-1);
      return last?.kind === "export" ? last.flags & 256 : -1;
    };
    expect(await flagsOf(await bench({ maxConnections: 1 }))).toBe(0);
    expect(await flagsOf(await bench({ maxConnections: 2 }))).toBe(256);
    expect(await flagsOf(await bench({ maxConnections: 0 }))).toBe(256);
  });

  it("that break off at any byte leave the export and the others alone", async () => {
    const made = await bench({ maxConnections: 0 });
    await made.export("d");
    const good = await made.client("d", ["base:allocation"]);
    const request = { flags: 0, cookie: 7n, offset: 0 };
    const whole = message(
      encodeClientFlags(3),
      encodeOption(option.structuredReply),
      encodeOption(option.go, encodeInfoRequest({ name: "d", wanted: [] })),
      encodeRequest({ ...request, type: command.read, length: 512 }),
      encodeRequest({ ...request, type: command.write, length: 64 }),
      pattern(64, 1),
      encodeRequest({ ...request, type: command.flush, length: 0 }),
    );
    for (let cut = 0; cut <= whole.byteLength; cut++) {
      const client = made.dial();
      await client.say(whole.subarray(0, cut)).catch(() => undefined);
      client.connection.abort?.();
    }
    expect((await good.does({ type: command.read, length: 512 })).error).toBeUndefined();
    await good.request({ type: command.disconnect });
    await expectQuiet(made);
    await made.exports.remove("d", "safe");
    expect(made.graph.node("d").parents.size).toBe(0);
  });

  it("a thousand of them leave nothing behind", async () => {
    const made = await bench({ maxConnections: 0 });
    await made.export("d");
    const clients = await Promise.all(Array.from({ length: 1000 }, () => made.client("d")));
    expect(made.server.clients).toBe(1000);
    const done = await Promise.all(
      clients.map((client, i) => client.does({ type: command.write, offset: i * 512 }, pattern(512, i))),
    );
    expect(done.every(({ error }) => error === undefined)).toBe(true);
    for (const client of clients) client.connection.abort?.();
    await expectQuiet(made);
    expect(same(await made.content("d", 999 * 512, 512), pattern(512, 999))).toBe(true);
  });

  it("that read nothing hold what they may, and the others go on", async () => {
    const made = await bench({ maxConnections: 0 });
    await made.fill("d", 0, MiB, 1);
    await made.export("d");
    const deaf = await Promise.all(Array.from({ length: 40 }, () => made.client("d")));
    const read = { type: command.read, flags: 0, cookie: 1n, offset: 0, length: MiB };
    for (const client of deaf)
      for (let i = 0; i < 100; i++) void client.say(encodeRequest(read)).catch(() => undefined);
    await made.host.clock.idle();
    const good = await made.client("d");
    const { data } = await good.does({ type: command.read, length: 64 * KiB });
    expect(same(data[0]!.bytes, await made.content("d", 0, 64 * KiB))).toBe(true);
    expect(made.server.memoryBytes).toBeLessThanOrEqual(limits.nbdServerBytes);
    for (const client of deaf) client.connection.abort?.();
    await good.request({ type: command.disconnect });
    await expectQuiet(made);
  });
});

describe("a client that does not read its replies", () => {
  it("has no more long ones in memory than it needs to be kept busy", async () => {
    const made = await bench();
    await made.fill("d", 0, MiB, 1);
    await made.export("d");
    const deaf = await made.client("d");
    for (let i = 0; i < 16; i++)
      await deaf.request({ type: command.read, offset: i * 64 * KiB, length: 256 * KiB });
    await made.host.clock.idle();
    expect(made.server.memoryBytes).toBeGreaterThan(0);
    expect(made.server.memoryBytes).toBeLessThanOrEqual(MiB);
    deaf.connection.abort?.();
    await expectQuiet(made);
  });

  it("gets all of them once it does", async () => {
    const made = await bench();
    await made.fill("d", 0, MiB, 1);
    await made.export("d");
    const slow = await made.client("d");
    const length = 256 * KiB;
    const asked: bigint[] = [];
    for (let i = 0; i < 12; i++)
      asked.push(await slow.request({ type: command.read, offset: i * 64 * KiB, length }));
    await made.host.clock.idle();
    for (const [i, cookie] of asked.entries()) {
      const { data } = await slow.reply(cookie, length);
      expect(same(data[0]!.bytes, await made.content("d", i * 64 * KiB, length))).toBe(true);
    }
  });
});

describe("the removal of an export", () => {
  it("is refused, safe, while somebody uses it; hard, it ends the client and tells of it", async () => {
    const made = await bench();
    await made.export("d");
    const client = await made.client("d");
    await client.does({ type: command.flush });
    expect(await wordsOf(made.exports.remove("d"))).toBe("export 'd' still in use");
    await made.exports.remove("d", "hard");
    expect(await wordsOf(made.exports.remove("d", "hard"))).toBe("Export 'd' is already shutting down");
    await client.ended();
    await made.exports.end("d");
    expect(made.events).toEqual(['BLOCK_EXPORT_DELETED {"id":"d"}']);
    expect(await wordsOf(made.exports.remove("d"))).toBe("Export 'd' is not found");
    const other = made.dial();
    await other.greet();
    await expect(other.go("d")).rejects.toThrow("export 'd' not present");
  });

  it("waits for requests that are under way", async () => {
    const made = await bench();
    const { driver } = made.graph.node("d");
    let finish!: () => void;
    const pwrite = driver.pwrite!.bind(driver);
    driver.pwrite = async (...args) => {
      await new Promise<void>((resolve) => (finish = resolve));
      await pwrite(...args);
    };
    await made.export("d");
    const client = await made.client("d");
    await client.request({ type: command.write }, pattern(512, 4));
    await made.host.clock.idle();
    let ended = false;
    const end = made.exports.end("d").then(() => (ended = true));
    await made.host.clock.idle();
    expect([ended, made.events]).toEqual([false, []]);
    finish();
    await end;
    expect(same(await made.content("d", 0, 512), pattern(512, 4))).toBe(true);
    expect(made.graph.node("d").parents.size).toBe(0);
  });
});

describe("the end of a server", () => {
  it("answers what was asked first, then lets go", async () => {
    const made = await bench();
    const { driver } = made.graph.node("d");
    let finish!: () => void;
    driver.flush = () => new Promise<void>((resolve) => (finish = resolve));
    await made.export("d");
    const client = await made.client("d");
    await client.does({ type: command.write }, pattern(512, 4));
    const cookie = await client.request({ type: command.flush });
    await made.host.clock.idle();
    const ending = made.exports.endAll();
    await made.host.clock.idle();
    finish();
    expect((await client.reply(cookie)).error).toBeUndefined();
    await client.ended();
    await ending;
    expect(made.events).toEqual(['BLOCK_EXPORT_DELETED {"id":"d"}']);
    expect(() => made.dial()).toThrow("Connection refused");
  });

  it("does not wait for a client that reads nothing, nor for one in its handshake", async () => {
    const made = await bench();
    await made.fill("d", 0, MiB, 1);
    await made.export("d");
    const deaf = await made.client("d");
    for (let i = 0; i < 8; i++) await deaf.request({ type: command.read, length: MiB });
    const shy = made.dial();
    await shy.greet();
    await made.host.clock.settle(made.exports.endAll());
    await shy.ended();
    await expectQuiet(made);
  });
});

describe("what can't be exported", () => {
  it("is refused in QEMU's words, and leaves nothing behind", async () => {
    const made = await bench();
    const node = made.graph.node("d");
    createDirtyBitmap(node, { name: "on" });
    createDirtyBitmap(node, { name: "used" }).busy = true;
    createDirtyBitmap(node, { name: "torn" }).inconsistent = true;
    const refusals: (readonly [Parameters<typeof made.export>[1], string])[] = [
      [{ bitmaps: ["none"] }, "Bitmap 'none' is not found"],
      [{ bitmaps: ["used"] }, "Bitmap 'used' is currently in use by another operation and cannot be used"],
      [{ bitmaps: ["torn"] }, "Bitmap 'torn' is inconsistent and cannot be used"],
      [{ bitmaps: ["on"], writable: false }, "Enabled bitmap 'on' incompatible with readonly export"],
      [{ name: "x".repeat(4097) }, `export name '${"x".repeat(4097)}' too long`],
      [{ description: "x".repeat(4097) }, `description '${"x".repeat(4097)}' too long`],
    ];
    for (const [options, words] of refusals) expect(await wordsOf(made.export("d", options))).toBe(words);
    expect(node.parents.size).toBe(0);
    expect(await wordsOf(made.exports.add({ id: "0", type: "nbd", "node-name": "d" }, () => never()))).toBe(
      "Invalid block export id",
    );
    await made.export("d", { bitmaps: [{ node: "d", name: "on" }] });
    expect(await wordsOf(made.export("d"))).toBe("Block export id 'd' is already in use");
    const again = made.exports.add({ id: "e", type: "nbd", "node-name": "d" }, (backend) =>
      made.server.serve(backend, { name: "d" }),
    );
    expect(await wordsOf(again)).toBe("NBD server already has export named 'd'");
    expect(made.exports.all.map(({ id }) => id)).toEqual(["d"]);
  });
});

function never(): never {
  throw new Error("nothing is to be served");
}

describe("memory", () => {
  it("is lent up to its sum, in turn, and a connection always has a small piece", async () => {
    const memory = new ServerMemory(256 * KiB);
    const [one, two] = [{ usesOwn: false }, { usesOwn: false }];
    const big = await memory.borrow(200 * KiB, one);
    expect(memory.bytes).toBe(256 * KiB);
    const small = await memory.borrow(64 * KiB, two);
    expect(two.usesOwn).toBe(true);
    const order: string[] = [];
    const first = Promise.resolve(memory.borrow(128 * KiB, two)).then((loan) => (order.push("first"), loan));
    const second = Promise.resolve(memory.borrow(4 * KiB, two)).then((loan) => (order.push("second"), loan));
    await Promise.resolve();
    expect(order).toEqual([]);
    big.end();
    (await first).end();
    (await second).end();
    small.end();
    expect([order, two.usesOwn]).toEqual([["first", "second"], false]);
    expect(memory.bytes).toBeLessThanOrEqual(256 * KiB);
    expect(() => big.end()).toThrow("twice");
  });

  it("lends more than its sum to one alone", async () => {
    const memory = new ServerMemory(256 * KiB);
    const borrower = { usesOwn: false };
    const small = await memory.borrow(4 * KiB, borrower);
    let lent = false;
    const large = Promise.resolve(memory.borrow(MiB, borrower)).then((loan) => ((lent = true), loan));
    await Promise.resolve();
    expect(lent).toBe(false);
    small.end();
    const loan = await large;
    expect(loan.data.byteLength).toBe(MiB);
    const head = Uint8Array.of(1, 2, 3);
    loan.data[0] = 9;
    expect([...loan.headed(head, 1)]).toEqual([1, 2, 3, 9]);
    loan.end();
  });
});
