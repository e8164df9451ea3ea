/**
 * The requests of one worker, one after the other: what follows from the seed, the worker's number and its plan, and from nothing
 * else. Each kind of choice has a stream of its own.
 */
import type { Kernels } from "../../kernels/kernels.ts";
import {
  type Operation,
  type Sizes,
  type WorkerPlan,
  WorkloadError,
  alignFor,
  changesOrReads,
  extremes,
  operations,
  sizesFor,
} from "../model/plan.ts";
import { Draws, streamKey } from "../random/noise.ts";
import { type Spot, spotsOf } from "./spots.ts";

/** One request. */
export interface Request {
  readonly operation: Operation;
  readonly offset: number;
  readonly bytes: number;
  /** Durable when it completes. */
  readonly fua: boolean;
}

/** A worker's part of the disk, bytes. */
export interface Extent {
  readonly offset: number;
  readonly bytes: number;
}

/** What a stream is made of. */
export interface StreamOptions {
  readonly plan: WorkerPlan;
  readonly extent: Extent;
  readonly seed: number;
  /** The worker's number in the workload. */
  readonly worker: number;
  readonly kernels: Kernels;
}

/** A drawer of sizes. */
function sizer(sizes: Sizes, draws: Draws): () => number {
  if (sizes.kind === "range") {
    const { min, max, step } = sizes;
    const choices = Math.floor((max - min) / step) + 1;
    return () => min + step * draws.below(choices);
  }
  const { parts } = sizes;
  if (parts.length === 1) return () => parts[0]!.bytes;
  return chooser(
    parts.map(({ weight }) => weight),
    draws,
    (i) => parts[i]!.bytes,
  );
}

/** Draws by weights. */
function chooser<T>(weights: readonly number[], draws: Draws, choose: (index: number) => T): () => T {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const last = weights.findLastIndex((weight) => weight > 0);
  return () => {
    let left = draws.fraction() * total;
    for (let i = 0; i < last; i++) {
      left -= weights[i]!;
      if (left < 0) return choose(i);
    }
    return choose(last);
  };
}

/** Where requests of one operation have got to. */
interface Cursor {
  at: number;
  /** Requests that still follow each other before the next random place. */
  run: number;
}

/** The stream. */
export class RequestStream {
  readonly #plan: WorkerPlan;
  readonly #extent: Extent;
  readonly #operation: () => Operation;
  readonly #sizes: Readonly<Record<Operation, () => number>>;
  readonly #spot: (operation: Operation, bytes: number) => Spot;
  readonly #choices: Draws;
  readonly #cursors: Record<Operation, Cursor>;
  #changes = 0;
  #queued: Request | undefined;

  constructor({ plan, extent, seed, worker, kernels }: StreamOptions) {
    this.#plan = plan;
    this.#extent = extent;
    const stream = (name: string): Draws => new Draws(kernels, streamKey(seed, worker, name));
    this.#operation = mixer(plan, stream("mix"));
    const sizeDraws = stream("sizes");
    const draw = (operation: Operation): (() => number) => sizer(sizesFor(plan, operation), sizeDraws);
    this.#sizes = {
      read: draw("read"),
      write: draw("write"),
      zero: draw("zero"),
      discard: draw("discard"),
      flush: () => 0,
    };
    this.#choices = stream("choices");
    this.#spot = spotsOf({ plan, length: extent.bytes, seed, worker, kernels });
    this.#cursors = cursors(plan, extent);
    checkFits(plan, extent);
  }

  /** The next request. */
  next(): Request {
    const queued = this.#queued;
    if (queued) {
      this.#queued = undefined;
      return queued;
    }
    const { flushEvery, rewrites } = this.#plan;
    if (flushEvery > 0 && this.#changes >= flushEvery) {
      this.#changes = 0;
      return { operation: "flush", offset: 0, bytes: 0, fua: false };
    }
    const request = this.#draw();
    if (request.operation !== "read" && request.operation !== "flush") this.#changes += 1;
    if (rewrites && request.operation === "discard") this.#queued = { ...request, operation: "write" };
    return request;
  }

  #draw(): Request {
    const operation = this.#operation();
    if (operation === "flush") return { operation, offset: 0, bytes: 0, fua: false };
    const wanted = Math.min(this.#sizes[operation](), this.#extent.bytes);
    const { fuaPercent } = this.#plan;
    const fua = operation === "write" && fuaPercent > 0 && this.#percent(fuaPercent);
    const { at, bytes } = this.#place(operation, wanted);
    return { operation, offset: this.#extent.offset + at, bytes, fua };
  }

  #percent(share: number): boolean {
    return share >= 100 || (share > 0 && this.#choices.fraction() * 100 < share);
  }

  /** The place in the extent. */
  #place(operation: Operation, bytes: number): Spot {
    const { locality } = this.#plan;
    const cursor = this.#cursors[operation];
    if (cursor.run > 1) cursor.run -= 1;
    else if (this.#percent(locality.randomPercent)) {
      cursor.run = locality.run;
      return this.#moved(cursor, this.#spot(operation, bytes));
    }
    return this.#moved(cursor, { at: this.#wrapped(operation, cursor.at, bytes), bytes });
  }

  #moved(cursor: Cursor, spot: Spot): Spot {
    cursor.at = spot.at + spot.bytes + this.#plan.locality.skip;
    return spot;
  }

  #wrapped(operation: Operation, at: number, bytes: number): number {
    const { locality } = this.#plan;
    if (at >= 0 && at + bytes <= this.#extent.bytes) return at;
    if (at >= 0 && locality.skip >= 0) return 0;
    // The last offset at which so many bytes fit.
    const align = alignFor(this.#plan, operation);
    return Math.floor((this.#extent.bytes - bytes) / align) * align;
  }
}

function mixer(plan: WorkerPlan, draws: Draws): () => Operation {
  const weights = operations.map((operation) => plan.mix[operation]);
  const only = weights.filter((weight) => weight > 0).length === 1;
  const single = operations[weights.findIndex((weight) => weight > 0)]!;
  return only ? () => single : chooser(weights, draws, (i) => operations[i]!);
}

function cursors({ locality }: WorkerPlan, extent: Extent): Record<Operation, Cursor> {
  // Backwards begins at the end.
  const cursor = (): Cursor => ({ at: locality.skip < 0 ? extent.bytes : 0, run: 1 });
  return { read: cursor(), write: cursor(), zero: cursor(), discard: cursor(), flush: cursor() };
}

/** Bytes of one pass: where all requests have one size, as many of them as fit. */
export function passBytes(plan: WorkerPlan, { bytes }: Extent): number {
  const all = changesOrReads(plan).map((operation) => extremes(sizesFor(plan, operation)));
  const size = all[0]?.min ?? 0;
  const isOne = size > 0 && size <= bytes && all.every(({ min, max }) => min === size && max === size);
  return isOne ? bytes - (bytes % size) : bytes;
}

function checkFits(plan: WorkerPlan, extent: Extent): void {
  const sizes = changesOrReads(plan).map((operation) => extremes(sizesFor(plan, operation)).min);
  const least = Math.min(...sizes);
  if (sizes.length > 0 && least > extent.bytes)
    throw new WorkloadError(
      `${plan.name}: requests of ${least} bytes do not fit into its ${extent.bytes} bytes`,
    );
}
