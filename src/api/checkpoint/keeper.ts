/**
 * Keeps a checkpoint while a job runs: every so often what is outstanding is taken, then the target is flushed, then both tables are
 * written.
 *
 * Invariants: one state at a time is being written; what it says to be done was durable before; the job waits for the last one, and goes
 * on without a checkpoint that can't be written, which is told, and gives up where the checkpoint or the target is not its own any more. How often: after a share of the disk or a second, and not so often that
 * it would take more than a third of the time, until so much is at stake that the copying has to wait.
 */
import { sameBytes } from "../../base/bytes.ts";
import { BlockError, errnoOf, messageOf } from "../../base/errors.ts";
import { KiB, MiB } from "../../base/limits.ts";
import { type DirtyBitmap, createDirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { BlockNode, Child } from "../../block/model/node.ts";
import type { Accompanied, JobCompanion } from "../../job/core/companion.ts";
import { Bitmap } from "../../kernels/bitmap.ts";
import type { Engine } from "../../machine/engine.ts";
import { Digester, regionBytes } from "./digests.ts";
import type { CheckpointFile } from "./file.ts";
import { checkWritten, type Roots, sourceIdentities } from "./identity.ts";
import { type CheckpointState, tableBytes } from "./state.ts";

const LEAST_STEP = 256 * KiB;
const MOST_STEP = 32 * MiB;
/** The share of a disk after which there is a checkpoint. */
const STEPS = 1024;
const LONGEST_MS = 1000;
/** The share of a disk that is copied beyond a checkpoint at most, however long it takes. */
const MOST_SHARE = 32;

/** What a keeper keeps. */
export interface Keeping {
  readonly engine: Pick<Engine, "graph">;
  readonly file: CheckpointFile;
  readonly state: CheckpointState;
  readonly roots: Roots;
}

/** What was found where a checkpoint is taken. */
interface Taken {
  readonly edge: Child;
  readonly touched: Bitmap | undefined;
  /** The tables are of the same shape as before. */
  readonly isSame: boolean;
  readonly shape: Pick<CheckpointState, "length" | "granularity" | "region">;
  readonly outstanding: Uint8Array;
}

/** See JobCompanion. */
export class Keeper implements JobCompanion {
  readonly resume: Bitmap | undefined;
  readonly underWayBytes: number;
  readonly #engine: Pick<Engine, "graph">;
  readonly #file: CheckpointFile;
  readonly #roots: Roots;
  readonly #step: number;
  readonly #most: number;
  readonly #before: number;
  #state: CheckpointState;
  /** Where the target was written to since the digests were taken, by regions. */
  #touched: DirtyBitmap | undefined;
  #saving: Promise<void> | undefined;
  #savedAt = 0;
  #savedMs: number;
  #costMs = 0;
  #isOver = false;
  #isTold = false;
  #isClosed = false;

  constructor({ engine, file, state, roots }: Keeping) {
    this.#engine = engine;
    this.#file = file;
    this.#roots = roots;
    this.#state = state;
    this.#before = state.copied;
    this.#savedMs = engine.graph.host.clock.nowMs();
    this.#step = Math.min(MOST_STEP, Math.max(LEAST_STEP, Math.floor(state.length / STEPS)));
    this.#most = Math.max(MiB, this.#step, Math.floor(state.length / MOST_SHARE));
    this.underWayBytes = Math.min(16 * MiB, Math.max(MiB, 2 ** Math.floor(Math.log2(state.length / 64 + 1))));
    this.resume = state.stage === "begun" ? undefined : bitmapOf(engine, state);
  }

  /** What it keeps. */
  get state(): CheckpointState {
    return this.#state;
  }

  progressed(job: Accompanied): void {
    if (this.#isOver || this.#saving || !this.isDue(job.offset)) return;
    void this.#keep(job);
  }

  room(job: Accompanied): Promise<void> | undefined {
    if (this.#isOver || job.offset - this.#savedAt < this.#most) return undefined;
    return this.#saving ?? this.#keep(job);
  }

  #keep(job: Accompanied): Promise<void> {
    this.#saving = this.#save(job, "copying").finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  /** Whether so much was copied, or time has gone by, that there is to be a checkpoint. */
  isDue(offset: number): boolean {
    const ms = this.#engine.graph.host.clock.nowMs() - this.#savedMs;
    const bytes = offset - this.#savedAt;
    return bytes >= this.#most || (ms >= 2 * this.#costMs && (bytes >= this.#step || ms >= LONGEST_MS));
  }

  /** As progressed(), for work that waits for it. */
  async reached(job: Accompanied): Promise<void> {
    if (this.isDue(job.offset)) await this.#save(job, "copying");
  }

  async workEnded(job: Accompanied): Promise<void> {
    this.#isOver = true;
    await this.#saving;
    await this.#save(job, job.hasFailed ? "copying" : "ending");
    this.#touched?.release();
    this.#touched = undefined;
    this.resume?.free();
  }

  async jobEnded(job: Accompanied): Promise<void> {
    if (this.#file.stays) return;
    await this.finish(!job.hasFailed);
  }

  /** Nobody needs it any more: it goes, if all is done, or is closed. Does not reject. */
  async finish(isDone: boolean): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await (isDone ? this.#file.finish() : this.#file.close());
    } catch (error) {
      this.#tell(error);
    }
  }

  async #save(job: Accompanied, stage: "copying" | "ending"): Promise<void> {
    const { clock } = this.#engine.graph.host;
    const begun = clock.nowMs();
    // Also where it fails: the work goes on.
    this.#savedAt = job.offset;
    try {
      await checkWritten(this.#roots);
      await this.#take(job, stage);
    } catch (error) {
      // Two processes on one target would write over each other, and into a file without a name nobody needs to write.
      if (error instanceof Error && errnoOf(error) === "ESTALE") job.giveUp(error);
      else this.#tell(error);
    }
    this.#savedMs = clock.nowMs();
    this.#costMs = this.#savedMs - begun;
  }

  async #take(job: Accompanied, stage: "copying" | "ending"): Promise<void> {
    // Before what is outstanding: of what is written from now on, the next process shall be told.
    const sources = await sourceIdentities(this.#roots);
    const left = job.outstanding();
    const edge = job.written;
    if (!left || !edge) return left?.free();
    const { offset } = job;
    const { outstanding, granularity } = tableOf(left);
    const old = this.#state;
    const isSame = old.stage !== "begun" && old.granularity === granularity;
    const region = isSame ? old.region : regionBytes(old.length, granularity);
    const shape = { length: old.length, granularity, region };
    const touched = this.#takeTouched(edge.node, region);
    try {
      this.#state = await this.#kept(
        { edge, touched, isSame, shape, outstanding },
        { stage, sources, offset },
      );
    } catch (error) {
      // What was not kept is looked at the next time.
      if (touched) this.#touched?.bitmap.merge(touched);
      throw error;
    } finally {
      touched?.free();
    }
  }

  /** Makes the target durable, and keeps the state that it has then. */
  async #kept(
    { edge, touched, isSame, shape, outstanding }: Taken,
    { stage, sources, offset }: Pick<CheckpointState, "stage" | "sources"> & { offset: number },
  ): Promise<CheckpointState> {
    const old = this.#state;
    try {
      await edge.flush();
    } catch (error) {
      const message = `the target can't be made durable: ${messageOf(error)}`;
      throw new BlockError({ code: errnoOf(error), op: "checkpoint", message });
    }
    const digests = new BigUint64Array(tableBytes({ ...old, ...shape }).digests / 8);
    if (isSame) digests.set(old.digests);
    const digester = new Digester({ edge, kernels: this.#engine.graph.kernels, ...shape });
    for (let at = 0; at < digester.regions; at++) {
      const bits = digester.bitsOf(outstanding, at);
      const isKnown =
        isSame && sameBytes(bits, digester.bitsOf(old.outstanding, at)) && !touched?.get(at * shape.region);
      if (!isKnown) digests[at] = await digester.digest(at, outstanding);
    }
    const copied = this.#before + offset;
    const state = { ...old, ...shape, stage, sources, copied, outstanding, digests };
    await this.#file.save(state);
    return state;
  }

  /** The regions that were written to since the last time; undefined: nobody has looked. */
  #takeTouched(node: BlockNode, region: number): Bitmap | undefined {
    if (this.#touched?.granularity !== region || this.#touched.node !== node) {
      this.#touched?.release();
      this.#touched = createDirtyBitmap(node, { granularity: region });
      // What an earlier process wrote after its last checkpoint is among what is outstanding.
      return undefined;
    }
    const taken = this.#touched.bitmap.clone();
    this.#touched.bitmap.clear();
    return taken;
  }

  /** The work goes on without: once, its user is told. */
  #tell(error: unknown): void {
    if (this.#isTold) return;
    this.#isTold = true;
    const words = `the checkpoint '${this.#file.name}' could not be written: ${messageOf(error)}`;
    this.#engine.graph.host.diagnostics?.warn(words, "BLOCKWRIGHT_CHECKPOINT");
  }
}

/** What is outstanding, as it is written. The bitmap is freed. */
function tableOf(left: Bitmap): { outstanding: Uint8Array; granularity: number } {
  const { granularity } = left;
  const outstanding = left.serialize();
  left.free();
  return { outstanding, granularity };
}

function bitmapOf(
  { graph }: Pick<Engine, "graph">,
  { length, granularity, outstanding }: CheckpointState,
): Bitmap {
  const bitmap = new Bitmap(length, granularity, graph.kernels);
  bitmap.deserialize(outstanding);
  return bitmap;
}
