/**
 * A copy in parts: each is a range of the disk that one worker at a time writes into what all of them fill, and whoever finds all parts
 * done gives it the target's name. A disk of a store is copied so in one part, a large raw one in many, by as many workers as there are.
 *
 * Invariants: whatever the queue does, a part is written by whoever holds its fence; what is told of a checkpoint was flushed before; the
 * target's name is given last, by one.
 */
import { setTimeout } from "node:timers/promises";
import { messageOf } from "../../base/errors.ts";
import { FleetError, specOf } from "../../fleet/jobs.ts";
import type { ShardCounts } from "../../fleet/queue.ts";
import type { Node, OpenSpec } from "../../node.ts";
import { type ActivePlan, Fence, type PartState, type Plan, type Taken } from "./fence.ts";
import type { Make, Medium } from "./medium.ts";
import { identityOf, refuseChanged } from "./names.ts";
import { ElsewhereError, FencedError } from "./place.ts";
import { copyRange, type Cut, reach } from "./steps.ts";
import type { CopyContext, CopyResult, Work } from "./work.ts";

const LOOK_MS = 500;
const MOST_BEAT_MS = 5000;

/** What is copied, and into what. */
export interface PartsInit {
  readonly work: Work;
  readonly source: Node;
  readonly medium: Medium;
  readonly format: string;
  readonly cut: Cut;
  readonly make: Make;
}

/** The copy. */
export class PartsCopy {
  readonly #init: PartsInit;
  readonly #context: CopyContext;
  readonly #fence: Fence;
  readonly #count: number;
  #toldMs = -Infinity;

  constructor(init: PartsInit) {
    this.#init = init;
    this.#context = init.work.context;
    const { medium } = init;
    this.#fence = new Fence(medium.objects, this.#context.watchMs, (token) => medium.discard(token));
    this.#count = Math.max(1, Math.ceil(init.source.length / init.cut.partBytes));
  }

  /** Copies what nobody else does, until all is done. Throws ElsewhereError where another one has all that is left to do. */
  async run(): Promise<CopyResult> {
    const spec = specOf(this.#init.work.job);
    const bytes = await this.#bytesOfDone(spec);
    if (bytes !== undefined) return { bytes };
    const plan = await this.#plan(spec);
    if (typeof plan === "number") return { bytes: plan };
    try {
      return { bytes: await this.#carry(plan) };
    } catch (error) {
      return { bytes: await this.#failed(plan, error) };
    }
  }

  /** After a failure: what was moved, if it is done all the same. Throws what there is to be told. */
  async #failed(plan: ActivePlan, error: unknown): Promise<number> {
    const ended = await this.#fence.done().catch(() => undefined);
    // One who comes back after the end leaves no words.
    if (ended && ended.plan >= plan.number) await this.#fence.sweep(plan.number).catch(() => undefined);
    if (!this.#context.signal.aborted) {
      if (ended?.plan === plan.number) return ended.bytes;
      // Where the plan has ended meanwhile its storage is gone, and what failed tells only that.
      if (!isElsewhere(error)) await this.#refuseOld(plan);
    }
    if (this.#context.isGivenUp(error)) await this.#giveUp(plan);
    throw error;
  }

  /** What was moved for the target, if it is there and says that it is this job's. */
  async #bytesOfDone(spec: string): Promise<number | undefined> {
    const done = await this.#fence.done();
    if (done?.spec !== spec || !(await this.#init.medium.exists())) return undefined;
    // Whoever said so may have ended before he had put all away.
    await this.#fence.sweep(done.plan).catch(() => undefined);
    return done.bytes;
  }

  /** Ends a plan, by one of the next number that says so; answers whether it was not another one who did. */
  #giveUp(plan: ActivePlan): Promise<boolean> {
    return this.#fence.replace(plan.number + 1, undefined).catch(() => false);
  }

  /** The plan in force for this job and this source, or a new one; a number: it was done meanwhile, and so much was moved for it. */
  async #plan(spec: string): Promise<ActivePlan | number> {
    const { source, cut } = this.#init;
    const what = { spec, source: await identityOf(source), length: source.length, partBytes: cut.partBytes };
    for (;;) {
      this.#context.signal.throwIfAborted();
      const { plan, next } = await this.#fence.look();
      const isSame = plan?.spec === what.spec && plan.source === what.source && plan.length === what.length;
      if (plan && isSame && plan.partBytes === what.partBytes) return plan;
      if (this.#context.isHelper) throw new ElsewhereError();
      if (plan && (await this.#isHeld(plan))) continue;
      const active = await this.#begin(next, what);
      // Who was at it may have ended it since it was looked for: nobody makes what is to be seen a second time.
      const bytes = await this.#bytesOfDone(spec);
      if (bytes === undefined && active) return active;
      if (bytes === undefined) continue;
      if (active && (await this.#giveUp(active))) await this.#fence.sweep(next + 1);
      return bytes;
    }
  }

  /** Makes a draft and puts its plan in force as the one of that number; undefined: another one was faster. */
  async #begin(number: number, what: Omit<Plan, "token">): Promise<ActivePlan | undefined> {
    const { medium, cut, make } = this.#init;
    const parts = { count: this.#count, bytes: cut.partBytes };
    let word: string | undefined;
    try {
      const token = await medium.begin(make, parts, async (named) => {
        word = await this.#fence.announce(number, named);
      });
      const plan = { ...what, token };
      if (await this.#fence.replace(number, plan)) return { ...plan, number };
      await this.#fence.withdraw(token, word);
    } catch (error) {
      // Whoever was faster has put away what was begun beside him, perhaps as it was made.
      if ((await this.#fence.look()).next === number) throw error;
    }
    return undefined;
  }

  /** Whether somebody may be at another plan; he is watched for a while. Throws ElsewhereError where he is. */
  async #isHeld(plan: ActivePlan): Promise<boolean> {
    const states = await this.#fence.states(plan, Math.ceil(plan.length / plan.partBytes) + 1);
    if (states.some(({ is }) => is === "held")) throw new ElsewhereError();
    if (!states.some(({ is }) => is === "watched")) return false;
    await setTimeout(LOOK_MS, undefined, { signal: this.#context.signal });
    return true;
  }

  /** Works on the plan until it is done; answers what all have moved, bytes. */
  async #carry(plan: ActivePlan): Promise<number> {
    for (;;) {
      this.#context.signal.throwIfAborted();
      const states = await this.#fence.states(plan, this.#count + 1);
      await this.#tell(plan, states);
      const parts = states.slice(0, this.#count);
      const isCopied = parts.every(({ is }) => is === "done");
      const next = isCopied ? this.#count : parts.findIndex(({ is }) => is === "free");
      const state = states[next];
      const taken =
        state?.is === "free" ? await this.#fence.take(plan, next, state.last) : await this.#wait(states);
      if (!taken) await this.#refuseOld(plan);
      else if (isCopied) return this.#publish(plan, taken);
      else await this.#copyPart(plan, taken);
    }
  }

  /** Nothing is free. */
  async #wait(states: readonly PartState[]): Promise<undefined> {
    const isWatched = states.some(({ is }) => is === "watched");
    if (this.#context.isHelper || (this.#count === 1 && !isWatched)) throw new ElsewhereError();
    await setTimeout(LOOK_MS, undefined, { signal: this.#context.signal });
  }

  /** Throws ElsewhereError once the plan is not in force any more: it is done, or another one is. */
  async #refuseOld(plan: ActivePlan): Promise<void> {
    if ((await this.#fence.plan())?.number !== plan.number) throw new ElsewhereError();
  }

  async #tell(plan: ActivePlan, states: readonly PartState[]): Promise<void> {
    if (this.#context.isHelper || performance.now() - this.#toldMs < LOOK_MS) return;
    const parts = states.slice(0, this.#count);
    const count = (wanted: PartState["is"]): number => parts.filter(({ is }) => is === wanted).length;
    const shards: ShardCounts = { total: this.#count, done: count("done"), free: count("free") };
    const progress = await this.#fence.progressOf(plan, this.#count);
    this.#context.progress({ ...progress, shards: this.#count === 1 ? undefined : shards });
    this.#toldMs = performance.now();
  }

  /** Has signs of life given while `body` runs; none comes after `end` has begun, which says that it is over. */
  async #alive(
    plan: ActivePlan,
    taken: Taken,
    { body, end }: { body: () => Promise<number>; end: (bytes: number) => Promise<void> },
  ): Promise<number> {
    const everyMs = Math.min(MOST_BEAT_MS, Math.max(LOOK_MS / 2, this.#context.watchMs / 4));
    let beating = Promise.resolve();
    const timer = setInterval(() => {
      beating = beating.then(() => this.#fence.beat(plan, taken));
    }, everyMs);
    let isDone = false;
    try {
      const bytes = await body();
      clearInterval(timer);
      await beating;
      await end(bytes);
      isDone = true;
      return bytes;
    } finally {
      clearInterval(timer);
      if (!isDone) await this.#fence.release(plan, taken).catch(() => undefined);
    }
  }

  async #copyPart(plan: ActivePlan, taken: Taken): Promise<void> {
    await this.#context.mayTransfer();
    try {
      await this.#alive(plan, taken, {
        body: () => this.#fill(plan, taken),
        end: (bytes) => this.#fence.release(plan, taken, { bytes }),
      });
    } catch (error) {
      // Where another one has the part meanwhile, what failed tells only that.
      await this.#fence.check(plan, taken).catch((other: unknown) => {
        if (isElsewhere(other)) throw other;
      });
      throw error;
    } finally {
      this.#context.transferred();
    }
  }

  /** Copies a part from its checkpoint on; answers what all attempts at it have moved. */
  async #fill(plan: ActivePlan, taken: Taken): Promise<number> {
    const { work, source, format, cut, medium } = this.#init;
    const { signal } = this.#context;
    const start = taken.part * plan.partBytes;
    const limit = Math.min(plan.length, start + plan.partBytes);
    let position = Math.max(start, taken.checkpoint?.position ?? 0);
    let bytes = taken.checkpoint ? taken.checkpoint.bytes + taken.checkpoint.under : 0;
    const file = await medium.storage(plan.token, taken.part);
    const spec = { driver: format, file, discard: "unmap" } as unknown as OpenSpec;
    const target = await work.library.openNode(spec, { engine: work.engine });
    try {
      let isFirst = true;
      while (position < limit || isFirst) {
        isFirst = false;
        const { end, data } = await reach(source, { position, limit }, { ...cut.measure, signal });
        await this.#fence.save(plan, taken, { position, bytes, under: data });
        if (end > position)
          await copyRange(
            { ...work, signal },
            { source, target },
            { offset: position, length: end - position, data },
          );
        [position, bytes] = [end, bytes + data];
        if (this.#count === 1) this.#context.progress({ bytes, kept: position });
        else await this.#look(plan);
      }
      await target.flush();
    } finally {
      await target.close();
    }
    return bytes;
  }

  /** Tells how all of it stands, in the middle of a part. */
  async #look(plan: ActivePlan): Promise<void> {
    if (this.#context.isHelper || performance.now() - this.#toldMs < 2 * LOOK_MS) return;
    await this.#tell(plan, await this.#fence.states(plan, this.#count));
  }

  #publish(plan: ActivePlan, taken: Taken): Promise<number> {
    return this.#alive(plan, taken, {
      body: async () => {
        const { bytes } = await this.#fence.progressOf(plan, this.#count);
        await this.#fence.check(plan, taken);
        await refuseChanged(this.#init.source, plan.source);
        const isQuiet = await this.#fence.haveAllEnded(plan, this.#count);
        try {
          await this.#init.medium.publish(plan.token, isQuiet);
        } catch (error) {
          // What was at the place has changed since the plan was made: somebody has to look before it is replaced.
          const isOther = this.#init.work.library.errnoOf(error) === "ESTALE";
          throw isOther ? new FleetError(messageOf(error)) : error;
        }
        return bytes;
      },
      end: (bytes) => this.#fence.finish(plan, taken, bytes),
    });
  }
}

/** Whether an error says that another worker has the job. */
export function isElsewhere(error: unknown): boolean {
  return error instanceof FencedError || error instanceof ElsewhereError;
}
