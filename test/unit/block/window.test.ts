// The window of work (src/block/copy/window.ts): places, bytes and their limits, waits, order; random works beside a model.
import { describe, expect, it } from "vitest";
import { AssertionError } from "../../../src/base/assert.ts";
import { deferred } from "../../../src/base/signals.ts";
import { Pipeline, Window, type Work } from "../../../src/block/copy/window.ts";
import { randomness } from "../../support/random.ts";

interface Job extends Work {
  finish(): void;
  fail(error: Error): void;
}

function job(bytes: number): Job {
  const { promise, resolve, reject } = deferred();
  return { bytes, result: promise, finish: () => resolve(), fail: (error) => reject(error) };
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};

/** Whether the promise has settled. */
async function isOver(promise: Promise<unknown>): Promise<boolean> {
  let over = false;
  promise.then(
    () => (over = true),
    () => (over = true),
  );
  await turns();
  return over;
}

describe("a window of work", () => {
  it("has room for one work of any size, for others within both limits", () => {
    const window = new Window({ works: 3 });
    const hasRoom = (bytes = 0): boolean => window.hasRoom(bytes, 100);
    expect(hasRoom(1000)).toBe(true);
    const large = job(1000);
    window.add(large);
    expect(hasRoom()).toBe(false);
    window.end(large);
    for (const bytes of [40, 40]) window.add(job(bytes));
    expect([hasRoom(20), hasRoom(21)]).toEqual([true, false]);
    window.add(job(20));
    expect([hasRoom(), window.size, window.bytes]).toEqual([false, 3, 100]);
  });

  it("keeps the order of starts, and the place of what has ended until it is taken", async () => {
    const window = new Window<Job>({ works: 4 });
    const jobs = [job(1), job(2), job(3)];
    for (const one of jobs) window.add(one);
    jobs[1]!.finish();
    await turns();
    expect([...window.works]).toEqual(jobs);
    expect(window.oldest).toBe(jobs[0]);
    window.end(jobs[1]!);
    expect([...window.works]).toEqual([jobs[0], jobs[2]]);
  });

  it("wakes whoever waits for room, for a change or for the end", async () => {
    let empty = 0;
    const window = new Window<Job>({ works: 2, onEmpty: () => (empty += 1) });
    const ended: number[] = [];
    const jobs = [job(1), job(2)];
    for (const one of jobs) window.run(one, () => ended.push(one.bytes));
    const room = window.room();
    const change = window.wait();
    const end = window.empty();
    expect(await Promise.all([isOver(room), isOver(change), isOver(end)])).toEqual([false, false, false]);
    jobs[1]!.finish();
    expect(await Promise.all([isOver(room), isOver(change), isOver(end)])).toEqual([true, true, false]);
    expect([ended, empty]).toEqual([[2], 0]);
    jobs[0]!.finish();
    await end;
    expect([ended, empty, window.bytes]).toEqual([[2, 1], 1, 0]);
    const woken = window.wait();
    window.wake();
    await woken;
  });

  it("waits for the results of all without ending any", async () => {
    const window = new Window<Job>({ works: 2 });
    const jobs = [job(0), job(0)];
    for (const one of jobs) window.add(one);
    const settled = window.settled();
    jobs[1]!.fail(new Error("no matter"));
    expect(await isOver(settled)).toBe(false);
    jobs[0]!.finish();
    await settled;
    expect(window.size).toBe(2);
  });

  it("tells an error that nobody dealt with at the next wait, and gives the place back", async () => {
    const window = new Window<Job>({ works: 1 });
    const broken = job(5);
    window.run(broken, () => undefined);
    broken.fail(new AssertionError("broken"));
    await expect(window.empty()).rejects.toThrow("broken");
    expect([window.size, window.bytes]).toEqual([0, 0]);
    await expect(window.room()).rejects.toThrow("broken");
  });

  it("breaks when it is used against its rules", () => {
    expect(() => new Window({ works: 0 })).toThrow(AssertionError);
    const window = new Window<Job>({ works: 1 });
    const one = job(1);
    expect(() => window.end(one)).toThrow(AssertionError);
    expect(() => window.add(job(-1))).toThrow(AssertionError);
    window.add(one);
    expect(() => window.add(job(1))).toThrow(AssertionError);
    expect(() => new Window<Job>({ works: 2 }).add(one)).not.toThrow();
  });

  it.each([1, 2, 3])("counts as a model does (seed %i)", async (seed) => {
    const random = randomness(seed);
    const window = new Window<Job>({ works: 5 });
    const model: Job[] = [];
    for (let step = 0; step < 400; step++) {
      const next = job(random(30));
      const bytes = model.reduce((sum, one) => sum + one.bytes, 0);
      const fits = model.length === 0 || (model.length < 5 && bytes + next.bytes <= 50);
      expect(window.hasRoom(next.bytes, 50)).toBe(fits);
      if (fits && random(3) > 0) {
        window.run(next, () => model.splice(model.indexOf(next), 1));
        model.push(next);
      } else if (model.length > 0) {
        model[random(model.length)]!.finish();
        await turns();
      }
      expect([...window.works]).toEqual(model);
      expect(window.bytes).toBe(model.reduce((sum, one) => sum + one.bytes, 0));
    }
  });
});

describe("a pipeline", () => {
  it("keeps the order, bounds what runs, and waits for the rest after a failure", async () => {
    const taken: number[] = [];
    let running = 0;
    let most = 0;
    const pipeline = new Pipeline<number>(3, (value) => taken.push(value));
    const task = (value: number, turns: number) => async (): Promise<number> => {
      most = Math.max(most, ++running);
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      running -= 1;
      if (value === 7) throw new Error("seven");
      return value;
    };
    for (let value = 0; value < 7; value++) await pipeline.push(task(value, 20 - 2 * value));
    await pipeline.drain();
    expect(taken).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(most).toBe(3);
    await pipeline.push(task(7, 1));
    await pipeline.push(task(8, 50));
    await expect(pipeline.drain()).rejects.toThrow("seven");
    expect([running, taken.length]).toEqual([0, 7]);
  });
});
