/** What the server does for each command, and how it refuses; the disk is looked at afterwards. */
import { describe, expect, it } from "vitest";
import { createDirtyBitmap } from "../../../../src/block/model/dirty-bitmap.ts";
import { command, commandFlag, commandWord } from "../../../../src/wire/nbd/constants.ts";
import { encodeRequest } from "../../../../src/wire/nbd/transmission.ts";
import { KiB, MiB, pattern, same } from "../../support/graph.ts";
import { NbdBench } from "./bench.ts";

const simple = undefined;
const structured = ["base:allocation"] as const;

async function disk(size = MiB, faults?: readonly Record<string, unknown>[]): Promise<NbdBench> {
  const made = await NbdBench.start();
  await made.disk("d", size, faults);
  return made;
}

describe.each([
  ["simple", simple],
  ["structured", structured],
])("%s replies", (_kind, contexts) => {
  it("READ gives what is there, and holes as holes or as zeroes", async () => {
    const made = await disk();
    await made.fill("d", 64 * KiB, 64 * KiB, 7);
    await made.export("d");
    const client = await made.client("d", contexts);
    const { data, holes } = await client.does({ type: command.read, offset: 0, length: 256 * KiB });
    const got = new Uint8Array(256 * KiB).fill(0xee);
    for (const { offset, bytes } of data) got.set(bytes, offset);
    for (const { offset, length } of holes) got.fill(0, offset, offset + length);
    expect(same(got, await made.content("d", 0, 256 * KiB))).toBe(true);
    if (contexts) {
      expect(holes).toEqual([
        { offset: 0, length: 64 * KiB },
        { offset: 128 * KiB, length: 128 * KiB },
      ]);
      expect(data.map(({ offset, bytes }) => [offset, bytes.byteLength])).toEqual([[64 * KiB, 64 * KiB]]);
    }
  });

  it("WRITE of any length is there afterwards", async () => {
    const made = await disk(8 * MiB);
    await made.export("d");
    const client = await made.client("d", contexts);
    for (const bytes of [1, 512, 64 * KiB, MiB, 3 * MiB + 7]) {
      const data = pattern(bytes, bytes);
      expect(await client.does({ type: command.write, offset: 4096 }, data)).toMatchObject({ data: [] });
      expect(same(await made.content("d", 4096, bytes), data)).toBe(true);
    }
    made.check();
  });

  it("carries out what has no data", async () => {
    const made = await disk();
    await made.fill("d", 0, MiB, 1);
    await made.export("d");
    const client = await made.client("d", contexts);
    const commands: { type: number; offset: number; length: number; flags: number }[] = [
      { type: command.writeZeroes, offset: 0, length: 64 * KiB, flags: 0 },
      {
        type: command.writeZeroes,
        offset: 128 * KiB,
        length: 64 * KiB,
        flags: commandFlag.noHole | commandFlag.fua,
      },
      { type: command.trim, offset: 256 * KiB, length: 64 * KiB, flags: commandFlag.fua },
      { type: command.cache, offset: 0, length: 512 * KiB, flags: 0 },
      { type: command.flush, offset: 0, length: 0, flags: 0 },
    ];
    for (const one of commands) expect((await client.does(one)).error, commandWord(one.type)).toBeUndefined();
    for (const { offset } of commands.slice(0, 3))
      expect((await made.content("d", offset, 64 * KiB)).every((byte) => byte === 0)).toBe(true);
    expect((await made.content("d", 512 * KiB, KiB)).some((byte) => byte !== 0)).toBe(true);
  });

  it("refuses what is wrong, and goes on", async () => {
    const made = await disk();
    await made.export("d");
    const client = await made.client("d", contexts);
    const refusals: (readonly [string, Parameters<typeof client.does>[0], string])[] = [
      ["beyond the end", { type: command.read, offset: MiB - 512, length: 1024 }, "EINVAL"],
      ["an offset far away", { type: command.read, offset: 2 ** 60, length: 512 }, "EINVAL"],
      ["zeroes beyond the end", { type: command.writeZeroes, offset: MiB, length: 1 }, "EINVAL"],
      ["a trim beyond the end", { type: command.trim, offset: MiB, length: 1 }, "EINVAL"],
      ["a read that is too long", { type: command.read, length: 32 * MiB + 1 }, "EINVAL"],
      ["an unknown command", { type: 99, length: 512 }, "EINVAL"],
      ["an unknown flag", { type: command.flush, flags: 0x100 }, "EINVAL"],
      ["a flag of another command", { type: command.read, length: 512, flags: commandFlag.noHole }, "EINVAL"],
      ["a status of nothing", { type: command.blockStatus, length: 0 }, "EINVAL"],
    ];
    for (const [what, request, code] of refusals)
      expect((await client.reply(await client.request(request))).error, what).toBe(code);
    expect((await client.does({ type: command.write, offset: MiB }, pattern(512, 1))).error).toBe("EINVAL");
    expect((await client.does({ type: command.write, offset: 0 }, pattern(512, 1))).error).toBeUndefined();
    made.check();
  });

  it("passes over the data of a write that is too long", async () => {
    const made = await disk();
    await made.export("d");
    const client = await made.client("d", contexts);
    const cookie = await client.request({ type: command.write, length: 33 * MiB });
    for (let left = 33; left > 0; left--) await client.say(new Uint8Array(MiB));
    expect((await client.reply(cookie)).error).toBe("EINVAL");
    expect((await client.does({ type: command.flush })).error).toBeUndefined();
  });

  it("lets nobody change a read-only export", async () => {
    const made = await disk();
    await made.export("d", { writable: false });
    const client = await made.client("d", contexts);
    for (const type of [command.writeZeroes, command.trim])
      expect((await client.does({ type, length: 512 })).error).toBe("EINVAL");
    expect((await client.does({ type: command.write }, pattern(512, 1))).error).toBe("EINVAL");
    expect((await client.does({ type: command.flush })).error).toBeUndefined();
  });

  it("tells of the disk's errors, and goes on", async () => {
    const made = await disk(MiB, [
      { event: "none", iotype: "read", sector: 8, errno: 5 },
      { event: "none", iotype: "write", sector: 16, errno: 28 },
    ]);
    await made.fill("d", 0, MiB, 3);
    await made.export("d");
    const client = await made.client("d", contexts);
    expect((await client.does({ type: command.read, offset: 4096, length: 512 })).error).toBe("EIO");
    expect((await client.does({ type: command.read, offset: 0, length: 512 })).error).toBeUndefined();
    expect((await client.does({ type: command.write, offset: 8192 }, pattern(512, 1))).error).toBe("ENOSPC");
    expect((await client.does({ type: command.write, offset: 0 }, pattern(512, 1))).error).toBeUndefined();
    made.check();
  });
});

describe("structured replies", () => {
  it("of a read with DF are one chunk, whatever holes there are", async () => {
    const made = await disk();
    await made.fill("d", 64 * KiB, 4 * KiB, 7);
    await made.export("d");
    const client = await made.client("d", structured);
    const request = { type: command.read, offset: 0, length: 128 * KiB, flags: commandFlag.df };
    const { data, holes } = await client.does(request);
    expect([data.length, data[0]?.bytes.byteLength, holes.length]).toEqual([1, 128 * KiB, 0]);
  });

  it("of long reads come in pieces, all of which are there", async () => {
    const made = await disk(4 * MiB);
    await made.fill("d", 0, 4 * MiB, 7);
    await made.export("d");
    const client = await made.client("d", structured);
    const { data } = await client.does({ type: command.read, length: 4 * MiB });
    expect(data.length).toBeGreaterThan(1);
    const got = new Uint8Array(4 * MiB);
    for (const { offset, bytes } of data) got.set(bytes, offset);
    expect(same(got, await made.content("d"))).toBe(true);
  });

  it("of block status: allocation, several bitmaps, only one extent when that is asked for", async () => {
    const made = await disk();
    await made.fill("d", 128 * KiB, 64 * KiB, 7);
    const node = made.graph.node("d");
    const [one, two] = ["one", "two"].map((name) => createDirtyBitmap(node, { name, granularity: 64 * KiB }));
    one!.bitmap.set(0, 1);
    two!.bitmap.set(192 * KiB, 64 * KiB);
    await made.export("d", { bitmaps: ["one", "two"] });
    expect([one!.busy, two!.busy]).toEqual([true, true]);
    const contexts = ["base:allocation", "qemu:dirty-bitmap:one", "qemu:dirty-bitmap:two"];
    const client = await made.client("d", contexts);
    const request = { type: command.blockStatus, offset: 0, length: 256 * KiB };
    const runs = (lengths: readonly (readonly [number, number])[]): object[] =>
      lengths.map(([length, flags]) => ({ length: length * KiB, flags }));
    expect((await client.does(request)).status).toEqual([
      {
        context: 0,
        extents: runs([
          [128, 3],
          [64, 0],
          [64, 3],
        ]),
      },
      {
        context: 1,
        extents: runs([
          [64, 1],
          [192, 0],
        ]),
      },
      {
        context: 2,
        extents: runs([
          [192, 0],
          [64, 1],
        ]),
      },
    ]);
    expect((await client.does({ ...request, flags: commandFlag.reqOne })).status).toEqual([
      { context: 0, extents: runs([[128, 3]]) },
      { context: 1, extents: runs([[64, 1]]) },
      { context: 2, extents: runs([[192, 0]]) },
    ]);
    await made.exports.end("d");
    expect([one!.busy, two!.busy]).toEqual([false, false]);
  });
});

describe("durability", () => {
  /** Flushes that reach the disk. */
  async function counted(size = MiB): Promise<{ made: NbdBench; flushes: () => number }> {
    const made = await disk(size);
    const { driver } = made.graph.node("d");
    let count = 0;
    const flush = driver.flush?.bind(driver);
    driver.flush = async () => {
      count += 1;
      await flush?.();
    };
    return { made, flushes: () => count };
  }

  it("FUA and FLUSH reach the disk before they are answered; a plain write does not wait", async () => {
    const { made, flushes } = await counted();
    await made.export("d");
    const client = await made.client("d");
    await client.does({ type: command.write }, pattern(512, 1));
    expect(flushes()).toBe(0);
    await client.does({ type: command.flush });
    expect(flushes()).toBe(1);
    await client.does({ type: command.write, flags: commandFlag.fua }, pattern(512, 1));
    expect(flushes()).toBe(2);
    await client.does({ type: command.writeZeroes, length: 512, flags: commandFlag.fua });
    expect(flushes()).toBe(3);
  });

  it("FUA of a write in several steps flushes once, at its end", async () => {
    const { made, flushes } = await counted(4 * MiB);
    await made.export("d");
    const client = await made.client("d");
    await client.does({ type: command.write, flags: commandFlag.fua }, pattern(3 * MiB, 1));
    expect(flushes()).toBe(1);
  });

  it("of a writethrough export is every write's", async () => {
    const { made, flushes } = await counted();
    await made.export("d", { writethrough: true });
    const client = await made.client("d");
    await client.does({ type: command.write }, pattern(512, 1));
    expect(flushes()).toBe(1);
  });
});

it("a client that says goodbye is let go once its requests are answered", async () => {
  const made = await disk();
  await made.export("d");
  const client = await made.client("d");
  const cookie = await client.request({ type: command.write }, pattern(512, 9));
  await client.request({ type: command.disconnect });
  expect((await client.reply(cookie)).error).toBeUndefined();
  await client.ended();
  expect(same(await made.content("d", 0, 512), pattern(512, 9))).toBe(true);
});

it("a request of another magic ends the connection, and nobody else's", async () => {
  const made = await disk();
  await made.export("d");
  const [bad, good] = [await made.client("d"), await made.client("d")];
  const bytes = encodeRequest({ type: command.read, flags: 0, cookie: 1n, offset: 0, length: 512 });
  bytes[0] = 0;
  await bad.say(bytes);
  await bad.ended();
  expect((await good.does({ type: command.read, length: 512 })).error).toBeUndefined();
  expect(made.server.clients).toBe(1);
});
