// The scheduler with no server, in virtual time: order, attempts and their waits, what goes on after a run that ended.
import { describe, expect, it } from "vitest";
import type { Clock } from "../../../src/base/host.ts";
import { type FleetJob, specOf } from "../../../src/fleet/jobs.ts";
import { LocalQueue } from "../../../src/fleet/local-queue.ts";
import { lostText } from "../../../src/fleet/lost.ts";
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

  /** What a run that ends without a word while some jobs are under way leaves to the next one; `handler` tells what they had come to. */
  async function ends(
    known: readonly JournalEntry[],
    handler: (id: string) => number,
  ): Promise<JournalEntry[]> {
    const { queue, lines } = make(known);
    await queue.submit(["bad", "beside", "other"].map((id) => job(id)));
    const never = new Promise<never>(() => undefined);
    const { signal } = new AbortController();
    const options = { name: "w", atOnce: 2, signal, note: () => undefined };
    void queue.work(({ job: { id }, progress }) => {
      progress({ bytes: 1, kept: handler(id) });
      return never;
    }, options);
    for (let turns = 0; turns < 50; turns++) await Promise.resolve();
    return [...new Map([...known, ...lines].map((entry) => [entry.id, entry])).values()];
  }

  it("gives up what ends the process again and again, alone in the end, and tries it anew when it is told to", async () => {
    let known: JournalEntry[] = [];
    const began: string[] = [];
    for (let round = 0; round < 13; round++) {
      const ran: string[] = [];
      known = await ends(known, (id) => {
        ran.push(id);
        return 0;
      });
      began.push(ran.join(" "));
    }
    // Three times in company, of which nobody knows whose fault it was; then those last, and each alone.
    expect(began.slice(0, 4)).toEqual(["bad beside", "bad beside", "bad beside", "other"]);
    expect(began.slice(-6)).toEqual(Array.from({ length: 6 }, () => "bad"));
    const last = make(known);
    await last.queue.submit(["bad", "beside", "other"].map((id) => job(id)));
    expect((await last.queue.rows())[0]).toMatchObject({ id: "bad", state: "failed", lastError: lostText });
    const ran: string[] = [];
    const run: Handler = (delivery) => {
      ran.push(delivery.job.id);
      return Promise.resolve(done);
    };
    await last.run(run, 2);
    expect(ran.toSorted()).toEqual(["beside", "other"]);
    expect(await last.queue.retry(["bad"])).toBe(1);
    await last.run(run, 2);
    expect(await last.queue.counts()).toEqual({ queued: 0, running: 0, done: 3, failed: 0 });
  });

  it("goes on with what gets on, however often the process ends", async () => {
    let known: JournalEntry[] = [];
    for (let round = 1; round <= 40; round++) known = await ends(known, (id) => (id === "bad" ? round : 0));
    expect(known.find(({ id }) => id === "bad")).toMatchObject({ state: "running", lost: 0, kept: 40 });
    const next = make(known);
    await next.queue.submit([job("bad")]);
    expect(await next.queue.counts()).toMatchObject({ queued: 1, failed: 0 });
  });

  it("hands out with a job what it told of itself before, unless it was found wrong", async () => {
    const checkpoint = { of: "x", position: 7, bytes: 9 };
    const before = {
      id: "a",
      spec: specOf(job("a")),
      state: "running",
      attempts: 1,
      bytes: 9,
      error: "",
    } as const;
    const { queue, lines, run } = make([{ ...before, kept: 7, checkpoint }]);
    await queue.submit([job("a")]);
    const handed: unknown[] = [];
    const outcomes: Outcome[] = [
      { state: "failed", bytes: 0, error: "again", isFinal: false },
      { state: "failed", bytes: 0, error: "wrong", isFinal: true },
      done,
    ];
    const handler: Handler = (delivery) => {
      handed.push(delivery.checkpoint);
      // Another one now, of something that is not as far: what is kept of it counts for it all the same.
      delivery.progress({ bytes: 1, kept: 2, checkpoint: { of: "y", position: 2, bytes: 1 } });
      return Promise.resolve(outcomes.shift()!);
    };
    await run(handler);
    expect(handed).toEqual([checkpoint, { of: "y", position: 2, bytes: 1 }]);
    expect(lines.at(-1)).toMatchObject({ state: "failed", checkpoint: undefined });
    await queue.retry(["a"]);
    await run(handler);
    expect(handed.at(-1)).toBeUndefined();
  });
});
