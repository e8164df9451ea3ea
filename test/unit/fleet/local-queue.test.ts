// The scheduler with no server, in virtual time: order, attempts and their waits, what goes on after a run that ended.
import { describe, expect, it } from "vitest";
import type { Clock } from "../../../src/base/host.ts";
import type { FleetJob } from "../../../src/fleet/jobs.ts";
import { LocalQueue } from "../../../src/fleet/local-queue.ts";
import type { JournalEntry } from "../../../src/fleet/queue.ts";
import type { Handler, Outcome } from "../../../src/fleet/queue.ts";

/** A clock whose timers come in their order when nothing else is left to do. */
class StepClock implements Clock {
  now = 0;
  readonly #timers = new Map<object, { at: number; callback: () => void }>();
  nowMs = (): number => this.now;
  wallMicroseconds = (): number => this.now * 1000;
  turn = (): Promise<void> => Promise.resolve();
  timer = (delayMs: number, callback: () => void): (() => void) => {
    const key = {};
    this.#timers.set(key, { at: this.now + delayMs, callback });
    return () => void this.#timers.delete(key);
  };
  /** Lets the next timer come; false: there is none. */
  step(): boolean {
    const [next] = [...this.#timers].toSorted(([, a], [, b]) => a.at - b.at);
    if (!next) return false;
    this.#timers.delete(next[0]);
    this.now = next[1].at;
    next[1].callback();
    return true;
  }
}

function job(id: string, priority = 0): FleetJob {
  return { id, kind: "convert", source: "s", target: id, options: {}, priority };
}

interface Made {
  queue: LocalQueue;
  clock: StepClock;
  lines: JournalEntry[];
  run: (handler: Handler, atOnce?: number) => Promise<void>;
}

function make(known: readonly JournalEntry[] = []): Made {
  const clock = new StepClock();
  const lines: JournalEntry[] = [];
  const journal = {
    known: new Map(known.map((entry) => [entry.id, entry])),
    write: (entry: JournalEntry) => void lines.push(entry),
  };
  const queue = new LocalQueue({ clock, journal, retries: { attempts: 3, backoffMs: 100 } });
  const run = async (handler: Handler, atOnce = 1): Promise<void> => {
    let isOver = false;
    const { signal } = new AbortController();
    const over = queue.work(handler, { name: "w", atOnce, signal, note: () => undefined }).then(() => {
      isOver = true;
    });
    while (!isOver) {
      for (let turns = 0; turns < 50; turns++) await Promise.resolve();
      if (!isOver && !clock.step()) await over;
    }
  };
  return { queue, clock, lines, run };
}

const done: Outcome = { state: "done", bytes: 5 };
const failed: Outcome = { state: "failed", bytes: 1, error: "no", isFinal: false };

describe("the local queue", () => {
  it("begins the highest priority first, and of those the earliest", async () => {
    const { queue, run } = make();
    await queue.submit([job("a"), job("b", -1), job("c", 2), job("d"), job("e", 2)]);
    const order: string[] = [];
    await run((delivery) => {
      order.push(delivery.job.id);
      return Promise.resolve(done);
    });
    expect(order).toEqual(["c", "e", "a", "d", "b"]);
    expect(await queue.counts()).toEqual({ queued: 0, running: 0, done: 5, failed: 0 });
  });

  it("tries again after a wait that doubles, while others go on, and gives up after the last attempt", async () => {
    const { queue, clock, run } = make();
    await queue.submit([job("bad"), job("good")]);
    const at: [string, number][] = [];
    await run((delivery) => {
      at.push([delivery.job.id, clock.now]);
      return Promise.resolve(delivery.job.id === "bad" ? failed : done);
    });
    expect(at).toEqual([
      ["bad", 0],
      ["good", 0],
      ["bad", 100],
      ["bad", 300],
    ]);
    expect((await queue.rows())[0]).toMatchObject({
      id: "bad",
      state: "failed",
      attempts: 3,
      lastError: "no",
    });
  });

  it("counts no attempt for a job that another has, or that is given back", async () => {
    const { queue, run } = make();
    await queue.submit([job("a")]);
    const outcomes: Outcome[] = [{ state: "elsewhere" }, { state: "given-back", bytes: 0 }, done];
    await run(() => Promise.resolve(outcomes.shift()!));
    expect((await queue.rows())[0]).toMatchObject({ state: "done", attempts: 1, bytes: 5 });
  });

  it("goes on from a journal: what is done is not done again, what failed is tried anew", async () => {
    const first = make();
    await first.queue.submit([job("a"), job("b")]);
    await first.run(({ job: { id } }) =>
      Promise.resolve(id === "a" ? done : { state: "failed", bytes: 0, error: "x", isFinal: true }),
    );
    const second = make(first.lines.filter(({ state }) => state === "done" || state === "failed"));
    await second.queue.submit([job("a"), job("b"), job("c")]);
    const ran: string[] = [];
    await second.run((delivery) => {
      ran.push(delivery.job.id);
      return Promise.resolve(done);
    });
    expect(ran).toEqual(["b", "c"]);
    // The same id with other words is another job.
    const third = make(first.lines);
    await third.queue.submit([{ ...job("a"), source: "other" }]);
    expect(await third.queue.counts()).toMatchObject({ queued: 1, done: 0 });
  });

  it("ends a job that is cancelled, waiting or running", async () => {
    const { queue, run } = make();
    await queue.submit([job("a"), job("b")]);
    expect(await queue.cancel(["b"])).toBe(1);
    await run(async ({ signal }) => {
      await queue.cancel(["a"]);
      return { state: "failed", bytes: 0, error: (signal.reason as Error).message, isFinal: true };
    });
    expect((await queue.rows()).map(({ state, lastError }) => [state, lastError])).toEqual([
      ["failed", "cancelled"],
      ["failed", "cancelled"],
    ]);
  });
});
