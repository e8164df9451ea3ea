/**
 * convert() as a job that keeps a checkpoint: a position, before which all is in the target.
 */
import type { Child } from "../../block/model/node.ts";
import type { Accompanied } from "../../job/core/companion.ts";
import { KiB } from "../../base/limits.ts";
import { Bitmap } from "../../kernels/bitmap.ts";
import type { Engine } from "../../machine/engine.ts";
import type { Keeper } from "./keeper.ts";

const GRANULARITY = 64 * KiB;

/** See Accompanied. Nothing is under way when it is asked. */
export class ConvertKeeper implements Accompanied {
  readonly written: Child;
  hasFailed = false;
  readonly #engine: Pick<Engine, "graph">;
  readonly #keeper: Keeper;
  readonly #length: number;
  #position: number;
  #lost: Error | undefined;
  readonly #from: number;

  constructor(
    engine: Pick<Engine, "graph">,
    init: { keeper: Keeper; written: Child; length: number; from: number },
  ) {
    this.#engine = engine;
    this.#keeper = init.keeper;
    this.written = init.written;
    this.#length = init.length;
    this.#from = init.from;
    this.#position = init.from;
  }

  /** Bytes of the disk that this process went through. */
  get offset(): number {
    return this.#position - this.#from;
  }

  outstanding(): Bitmap {
    const left = new Bitmap(this.#length, GRANULARITY, this.#engine.graph.kernels);
    left.set(this.#position, this.#length - this.#position);
    return left;
  }

  /** All before `position` was written, and nothing behind it is being written. */
  async reached(position: number): Promise<void> {
    this.#position = position;
    await this.#keeper.reached(this);
    if (this.#lost) throw this.#lost;
  }

  /** Whether there is to be a checkpoint once nothing before `position` is under way. */
  isDue(position: number): boolean {
    return this.#keeper.isDue(position - this.#from);
  }

  /** The end, well or not. */
  async ended(hasFailed: boolean): Promise<void> {
    this.hasFailed = hasFailed;
    if (!hasFailed) this.#position = this.#length;
    await this.#keeper.workEnded(this);
    this.hasFailed ||= this.#lost !== undefined;
    await this.#keeper.jobEnded(this);
    if (this.#lost && !hasFailed) throw this.#lost;
  }

  giveUp(error: Error): void {
    this.#lost = error;
  }
}
