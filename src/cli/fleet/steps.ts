/**
 * Copying a range of a disk in steps, after each of which a checkpoint can be kept.
 */
import { BlockError, errnoOf, messageOf } from "../../base/errors.ts";
import type { FleetJob } from "../../fleet/jobs.ts";
import type { Node } from "../../node.ts";
import { isPath, type Library } from "./names.ts";
import type { Pace } from "./pace.ts";

const MiB = 2 ** 20;
/** Data between two checkpoints: what may have to be copied once more; the 128th part of a disk within these. */
const MOST_STEP = 16 * MiB;
const LEAST_STEP = MiB;
/** Steps begin at a multiple of the largest cluster (VHDX's blocks but for the largest). */
export const STEP_UNIT = 2 * MiB;
/** How far the map is looked at in one go. */
const MAP_WINDOW = 1024 * MiB;

/** Data between two checkpoints of a disk of that length, bytes. */
export function shareOf(length: number): number {
  return Math.min(MOST_STEP, Math.max(LEAST_STEP, Math.floor(length / 128)));
}

/** How a step is measured. */
export interface Measure {
  /** Data of a step, bytes. */
  readonly share: number;
  /** Where steps may end, a multiple of STEP_UNIT. */
  readonly unit: number;
  readonly signal: AbortSignal;
}

/** How a disk is cut. */
export interface Cut {
  /** Bytes of a part, a multiple of the steps' unit; all of the disk: one part. */
  readonly partBytes: number;
  readonly measure: Omit<Measure, "signal">;
}

/** How far the next step from `position` goes: so far that it has its share of data, or to `limit`. */
export async function reach(
  source: Node,
  { position, limit }: { position: number; limit: number },
  { share, unit, signal }: Measure,
): Promise<{ end: number; data: number }> {
  let data = 0;
  for (let from = position; from < limit; from += MAP_WINDOW) {
    const range = { offset: from, length: Math.min(MAP_WINDOW, limit - from), signal };
    for await (const extent of source.map(range)) {
      if (!extent.data) continue;
      const rest = share - data;
      if (extent.bytes < rest) {
        data += extent.bytes;
        continue;
      }
      const end = Math.min(limit, Math.ceil((extent.offset + rest) / unit) * unit);
      return { end, data: data + Math.min(extent.bytes, end - extent.offset) };
    }
  }
  return { end: limit, data };
}

/** A failure with the name of the disk that has it. What is no path says by itself what it is. */
function named(error: unknown, name: string): unknown {
  if (!isPath(name)) return error;
  const message = `'${name}': ${messageOf(error)}`;
  return new BlockError({ code: errnoOf(error), op: "copy", message, cause: error });
}

/** Copies a range that holds so much data, as the job says, and makes it durable. */
export async function copyRange(
  { library, job, pace, signal }: { library: Library; job: FleetJob; pace: Pace; signal: AbortSignal },
  { source, target }: { source: Node; target: Node },
  { offset, length, data }: { offset: number; length: number; data: number },
): Promise<void> {
  const { compress, compressionLevel, sparseBytes, speedBytesPerSecond } = job.options;
  const copied = library.convert(source, target, {
    ...{ offset, length, signal, targetIsZero: true },
    ...(compress === undefined ? {} : { compress }),
    ...(compressionLevel === undefined ? {} : { compressionLevel }),
    ...(sparseBytes === undefined ? {} : { sparseBytes }),
    ...(speedBytesPerSecond === undefined
      ? {}
      : { speedBytesPerSecond: pace.next(data, speedBytesPerSecond) }),
  });
  await copied.catch((error: unknown) => {
    if (!(error instanceof library.CopyError)) throw error;
    throw named(error, error.operation === "read" ? job.source : (job.target ?? ""));
  });
  await target.flush().catch((error: unknown) => {
    throw named(error, job.target ?? "");
  });
}
