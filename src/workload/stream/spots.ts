/**
 * Where random requests of a worker go, and how much of them there is room for: where each block is to be taken once and requests
 * have different sizes, one ends where the next block was taken before.
 */
import type { Kernels } from "../../kernels/kernels.ts";
import {
  type Operation,
  type WorkerPlan,
  alignFor,
  changesOrReads,
  extremes,
  sizesFor,
} from "../model/plan.ts";
import { FreeMap, MOST_MAPPED } from "../random/free-map.ts";
import { Draws, streamKey } from "../random/noise.ts";
import { placesOf } from "../random/places.ts";

/** A place in a worker's part of the disk, and the bytes that a request takes there. */
export interface Spot {
  readonly at: number;
  readonly bytes: number;
}

type Drawer = (bytes: number) => Spot;

/** What places are drawn of. */
export interface SpotOptions {
  readonly plan: WorkerPlan;
  /** Bytes of the worker's part of the disk. */
  readonly length: number;
  readonly seed: number;
  readonly worker: number;
  readonly kernels: Kernels;
}

/** A drawer by operation; operations whose offsets are multiples of the same share one, and with it the blocks that were taken. */
export function spotsOf(options: SpotOptions): (operation: Operation, bytes: number) => Spot {
  const { plan, kernels, seed, worker } = options;
  const draws = new Draws(kernels, streamKey(seed, worker, "places"));
  const drawers = new Map<number, Drawer>();
  for (const operation of changesOrReads(plan)) {
    const align = alignFor(plan, operation);
    if (!drawers.has(align)) drawers.set(align, drawerOf(options, align, draws));
  }
  return (operation, bytes) => drawers.get(alignFor(plan, operation))!(bytes);
}

function drawerOf({ plan, length, seed, worker }: SpotOptions, align: number, draws: Draws): Drawer {
  const blocks = Math.max(1, Math.floor(length / align));
  const { spread } = plan.locality;
  const last = (bytes: number): number => Math.floor((length - bytes) / align) * align;
  if (spread.kind === "once" && isMixed(plan, align) && blocks <= MOST_MAPPED) {
    const map = new FreeMap(blocks);
    return (bytes) => {
      const { index, count } = map.take(draws.below(blocks), Math.ceil(bytes / align));
      return { at: index * align, bytes: Math.min(bytes, count * align) };
    };
  }
  const places = placesOf(spread, blocks, { draws, key: streamKey(seed, worker, "order") });
  return (bytes) => ({ at: Math.min(places() * align, last(bytes)), bytes });
}

/** Whether requests that begin at multiples of it may be longer. */
function isMixed(plan: WorkerPlan, align: number): boolean {
  return changesOrReads(plan).some(
    (operation) => alignFor(plan, operation) === align && extremes(sizesFor(plan, operation)).max > align,
  );
}
