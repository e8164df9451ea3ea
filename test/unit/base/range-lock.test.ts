// The one range lock: what conflicts waits, what does not never does, and nobody comes in between.
import { describe, expect, test } from "vitest";
import { isPromise } from "../../../src/base/answer.ts";
import { type HeldRange, RangeLock } from "../../../src/base/ranges.ts";
import { VirtualHost } from "../support/virtual-host.ts";

describe("a range lock", () => {
  test("gives one of two that wait for a range the range at a time", async () => {
    const lock = new RangeLock();
    const first = lock.add({ offset: 0, bytes: 10 });
    const order: string[] = [];
    const work = async (name: string): Promise<void> => {
      const held = await lock.exclusive(5, 10);
      order.push(`${name} in`);
      await Promise.resolve();
      await Promise.resolve();
      order.push(`${name} out`);
      lock.end(held);
    };
    const both = Promise.all([work("a"), work("b")]);
    lock.end(first);
    await both;
    expect(order).toEqual(["a in", "a out", "b in", "b out"]);
    expect(lock.size).toBe(0);
  });

  test("gives a free range at once", () => {
    const lock = new RangeLock();
    const held = lock.exclusive(0, 4);
    if (isPromise(held)) throw new Error("waited for nothing");
    expect([lock.overlaps({ offset: 3, bytes: 1 }), lock.overlaps({ offset: 4, bytes: 1 })]).toEqual([
      true,
      false,
    ]);
    lock.end(held);
    expect(lock.bytes).toBe(0);
  });

  test("waits for what overlaps and for nothing else", async () => {
    const lock = new RangeLock();
    const held = lock.add({ offset: 100, bytes: 50 });
    expect(await lock.waitOne({ offset: 150, bytes: 10 })).toBe(false);
    let waited = false;
    const waiting = lock.waitOverlap({ offset: 149, bytes: 10 }).then(() => (waited = true));
    await Promise.resolve();
    expect(waited).toBe(false);
    expect(lock.ranges).toEqual([{ offset: 100, bytes: 50 }]);
    lock.end(held);
    await waiting;
    expect(lock.size).toBe(0);
    expect(() => lock.end(held)).toThrow("twice");
  });

  test("lets those who share a range in together, and keeps both kinds apart", () => {
    const lock = new RangeLock();
    const one = lock.tryShared(0, 8);
    expect(lock.tryShared(4, 8)).toBeDefined();
    expect(isPromise(lock.exclusive(6, 1))).toBe(true);
    lock.end(one!);
    const alone = lock.exclusive(20, Infinity);
    expect(isPromise(alone)).toBe(false);
    expect(lock.tryShared(1_000_000, 1)).toBeUndefined();
    expect(lock.tryShared(12, 8)).toBeDefined();
  });

  test("in turn, a request waits for those before it that still wait themselves", async () => {
    const lock = new RangeLock();
    const order: string[] = [];
    const release = new Map<string, () => void>();
    const request = async (
      name: string,
      offset: number,
      bytes: number,
      exclusive: boolean,
    ): Promise<void> => {
      const held = await lock.inTurn({ offset, bytes, exclusive });
      order.push(name);
      await new Promise<void>((resolve) => release.set(name, resolve));
      lock.end(held);
    };
    const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));
    const all = [
      request("write", 0, 8, true),
      request("wide write", 4, 8, true),
      request("read behind it", 10, 2, false),
      request("read elsewhere", 20, 4, false),
      request("flush", 0, Infinity, false),
    ];
    await turn();
    expect(order).toEqual(["write", "read elsewhere"]);
    release.get("write")!();
    await turn();
    expect(order).toEqual(["write", "read elsewhere", "wide write"]);
    release.get("wide write")!();
    await turn();
    expect(order.slice(3)).toEqual(["read behind it", "flush"]);
    for (const name of ["read elsewhere", "read behind it", "flush"]) release.get(name)!();
    await Promise.all(all);
    expect(lock.size).toBe(0);
  });
});

describe("overlap", () => {
  const range = (offset: number, bytes: number): { offset: number; bytes: number } => ({ offset, bytes });

  test.each([
    ["the same", range(0, 10), range(0, 10), true],
    ["one byte", range(0, 10), range(9, 5), true],
    ["neighbours", range(0, 10), range(10, 5), false],
    ["one inside the other", range(0, 100), range(40, 1), true],
    ["far apart", range(0, 1), range(2 ** 50, 1), false],
    ["an empty one at the other's start", range(5, 0), range(5, 10), false],
    ["an empty one inside", range(7, 0), range(5, 10), true],
  ])("of %s", (_what, one, other, expected) => {
    for (const [held, asked] of [
      [one, other],
      [other, one],
    ] as const) {
      const lock = new RangeLock();
      lock.add(held);
      expect(lock.overlaps(asked)).toBe(expected);
    }
  });
});

test("nobody ever holds a byte that another holds alone", async () => {
  const { random } = new VirtualHost();
  const lock = new RangeLock();
  /** By byte: how many share it, or -1. */
  const owners = new Int32Array(64);
  const inside = async (held: HeldRange): Promise<void> => {
    for (let at = held.offset; at < held.offset + held.bytes; at++) {
      expect(held.exclusive ? owners[at] === 0 : owners[at]! >= 0).toBe(true);
      owners[at] = held.exclusive ? -1 : owners[at]! + 1;
    }
    for (let turns = random.below(6); turns > 0; turns--) await Promise.resolve();
    for (let at = held.offset; at < held.offset + held.bytes; at++)
      owners[at] = held.exclusive ? 0 : owners[at]! - 1;
    lock.end(held);
  };
  const one = async (): Promise<void> => {
    const offset = random.below(60);
    const bytes = 1 + random.below(64 - offset);
    const shared = random.below(2) === 0 ? lock.tryShared(offset, bytes) : undefined;
    await inside(shared ?? (await lock.exclusive(offset, bytes)));
  };
  for (let round = 0; round < 200; round++) await Promise.all(Array.from({ length: 10 }, one));
  expect([lock.size, owners.some((count) => count !== 0)]).toEqual([0, false]);
});
