/** The arena: slots that do not overlap, strict order, backpressure, abort; and the span allocator under it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockError } from "../../../src/base/errors.ts";
import { Arena, ARENA_PAGE, type Slot } from "../../../src/kernels/arena.ts";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";
import { Spans } from "../../../src/kernels/simd.ts";

const SIZE = 2 ** 20;
const newArena = (): Arena => new Arena(loadKernels({ arenaBytes: SIZE }));

/** Lets everything that is ready run. */
async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

describe("slots", () => {
  test.each([
    ["simd", loadKernels],
    ["twin", loadTwinKernels],
  ])("are exact and page-aligned, and count while they are held (%s)", async (_, load) => {
    const arena = new Arena(load({ arenaBytes: SIZE }));
    expect(arena.size).toBe(SIZE);
    const a = await arena.acquire(5000);
    const b = await arena.acquire(1);
    expect([a.bytes.length, b.bytes.length]).toEqual([5000, 1]);
    expect(a.bytes.byteOffset % ARENA_PAGE).toBe(0);
    expect(b.bytes.byteOffset % ARENA_PAGE).toBe(0);
    expect(arena.inUse).toBe(3 * ARENA_PAGE);
    a.release();
    b[Symbol.dispose]();
    expect([arena.inUse, arena.peak]).toEqual([0, 3 * ARENA_PAGE]);
  });

  test("released twice is a programmer error", () => {
    const slot = newArena().tryAcquire(10)!;
    slot.release();
    expect(() => slot.release()).toThrow("twice");
  });

  test("of more than the arena can never be had", async () => {
    const arena = newArena();
    expect(() => arena.tryAcquire(SIZE + 1)).toThrow(BlockError);
    await expect(arena.acquire(SIZE + 1)).rejects.toMatchObject({ code: "ENOMEM", op: "arena" });
    const all = await arena.acquire(SIZE);
    expect(all.bytes.length).toBe(SIZE);
  });
});

describe("waiting", () => {
  test("is first come, first served: a small request does not pass a large one", async () => {
    const arena = newArena();
    const first = await arena.acquire(SIZE / 2);
    const order: string[] = [];
    const slots: Slot[] = [];
    const take = async (name: string, bytes: number): Promise<void> => {
      slots.push(await arena.acquire(bytes));
      order.push(name);
    };
    const large = take("large", SIZE);
    const small = take("small", 1);
    await settle();
    expect(order).toEqual([]);
    expect(arena.waiting).toBe(2);
    expect(arena.tryAcquire(1)).toBeUndefined();
    first.release();
    await large;
    expect(order).toEqual(["large"]);
    slots[0]!.release();
    await small;
    expect(order).toEqual(["large", "small"]);
    expect(arena.waiting).toBe(0);
  });

  test("ends with the signal's reason, and lets those behind it through", async () => {
    const arena = newArena();
    const half = await arena.acquire(SIZE / 2);
    const controller = new AbortController();
    const blocked = arena.acquire(SIZE, controller.signal);
    const behind = arena.acquire(SIZE / 4);
    controller.abort(new Error("enough"));
    await expect(blocked).rejects.toThrow("enough");
    (await behind).release();
    half.release();
    expect([arena.inUse, arena.waiting]).toEqual([0, 0]);
  });

  test("does not begin under an aborted signal, and an abort after the grant changes nothing", async () => {
    const arena = newArena();
    await expect(arena.acquire(1, AbortSignal.abort(new Error("no")))).rejects.toThrow("no");
    const all = await arena.acquire(SIZE);
    const controller = new AbortController();
    const waiting = arena.acquire(1, controller.signal);
    all.release();
    const slot = await waiting;
    controller.abort();
    expect(arena.inUse).toBe(ARENA_PAGE);
    slot.release();
    expect(arena.inUse).toBe(0);
  });

  test("random use: slots never overlap, everything is served, nothing leaks", async () => {
    const step = fc.record({
      bytes: fc.integer({ min: 0, max: SIZE / 2 }),
      release: fc.nat(),
      abort: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async (steps) => {
        const arena = newArena();
        const held: Slot[] = [];
        let failures = 0;
        const pending: Promise<void>[] = [];
        for (const { bytes, release, abort } of steps) {
          const controller = new AbortController();
          const wait = arena.acquire(bytes, controller.signal);
          pending.push(
            wait.then(
              (slot) => {
                for (const other of held) {
                  const a = slot.bytes.byteOffset;
                  const b = other.bytes.byteOffset;
                  expect(a + slot.bytes.length <= b || b + other.bytes.length <= a).toBe(true);
                }
                held.push(slot);
              },
              () => void failures++,
            ),
          );
          await settle();
          if (abort) controller.abort();
          if (held.length > 0 && release % 2 === 0) held.splice(release % held.length, 1)[0]!.release();
          await settle();
        }
        while (arena.waiting > 0) {
          held.shift()!.release();
          await settle();
        }
        await Promise.all(pending);
        for (const slot of held) slot.release();
        expect(arena.inUse).toBe(0);
        expect(arena.peak).toBeLessThanOrEqual(SIZE);
        expect(failures).toBeLessThanOrEqual(steps.filter((one) => one.abort).length);
      }),
      { numRuns: 40 },
    );
  });
});

describe("spans", () => {
  test("behave as a model that knows each unit", () => {
    const action = fc.record({ take: fc.boolean(), units: fc.integer({ min: 1, max: 20 }), which: fc.nat() });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
        const spans = new Spans(100);
        const owner = Array.from({ length: 100 }, () => false);
        const taken: [number, number][] = [];
        for (const { take, units, which } of actions) {
          if (take) {
            const firstFit = owner.findIndex((_, i) => {
              const span = owner.slice(i, i + units);
              return span.length === units && !span.includes(true);
            });
            const start = spans.take(units);
            expect(start).toBe(firstFit);
            if (start < 0) continue;
            owner.fill(true, start, start + units);
            taken.push([start, units]);
          } else if (taken.length > 0) {
            const [start, length] = taken.splice(which % taken.length, 1)[0]!;
            spans.give(start, length);
            owner.fill(false, start, start + length);
          }
          expect(spans.free).toBe(owner.filter((one) => !one).length);
        }
      }),
    );
  });

  test("refuse what was not taken, and grow at the end", () => {
    const spans = new Spans(4);
    expect(() => spans.give(0, 1)).toThrow("twice");
    expect(spans.take(5)).toBe(-1);
    spans.extend(3);
    expect(spans.take(7)).toBe(0);
    expect(() => spans.give(6, 2)).toThrow("twice");
    spans.give(0, 7);
    expect(() => spans.give(2, 1)).toThrow("twice");
    expect([spans.total, spans.free]).toEqual([7, 7]);
  });
});
