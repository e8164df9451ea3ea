/**
 * In which parts a disk is copied, and in which steps.
 *
 * Invariants: only a raw disk is cut, since its parts lie where they will be; of a disk in an object store parts and steps end where its
 * chunks do.
 */
import type { StoredChunks } from "../../block/model/contract.ts";
import { alignUp } from "../../base/ranges.ts";
import { type FleetJob, FleetError } from "../../fleet/jobs.ts";
import { type Cut, shareOf, STEP_UNIT } from "./steps.ts";

const GiB = 2 ** 30;
/** A raw disk of so many bytes is cut, without being asked for, into shards of so many at least, and so many shards at most. */
const SHARDED_BYTES = 128 * GiB;
const SHARD_BYTES = 16 * GiB;
const MOST_SHARDS = 256;
/** As many as may be asked for. */
const BOUND_SHARDS = 4096;
/** Chunks that a step fills whose image is no raw one: a flush stores those of its tables again. */
const STEP_CHUNKS = 32;

/** How a job's disk is cut; `chunks`: of a store that it is made in. Throws FleetError for shards of what can't be cut. */
export function cutOf(
  job: FleetJob,
  { length, chunks, isPlain }: { length: number; chunks: StoredChunks | undefined; isPlain: boolean },
): Cut {
  const { shards, shardBytes } = job.options;
  const { unit, measure } = chunks
    ? measuresOf(chunks, { length, isPlain })
    : { unit: STEP_UNIT, measure: { share: shareOf(length), unit: STEP_UNIT } };
  const partBytes = alignUp(partBytesOf(job, length), unit);
  if (partBytes >= length) return { partBytes: Math.max(1, length), measure };
  if (isPlain) return { partBytes: bounded(partBytes, length), measure };
  if (shards !== undefined || shardBytes !== undefined)
    throw new FleetError("only a raw disk is written in shards: leave out 'shards' and 'shardBytes'");
  return { partBytes: length, measure };
}

function partBytesOf({ options: { shards, shardBytes } }: FleetJob, length: number): number {
  if (shards !== undefined && shardBytes !== undefined)
    throw new FleetError("options 'shards' and 'shardBytes' can't be used together");
  if (shardBytes !== undefined) return shardBytes === 0 ? length : shardBytes;
  if (shards !== undefined) return Math.max(1, Math.ceil(length / Math.max(1, shards)));
  return length < SHARDED_BYTES ? length : Math.max(SHARD_BYTES, Math.ceil(length / MOST_SHARDS));
}

/** Each shard is some files or objects beside the target. */
function bounded(partBytes: number, length: number): number {
  if (partBytes * BOUND_SHARDS >= length) return partBytes;
  throw new FleetError(`a disk is copied in ${BOUND_SHARDS} shards at most`);
}

/** The steps of a copy into a store, and what a part is a multiple of. */
function measuresOf(
  { bytes, partUnit, most, hint }: StoredChunks,
  { length, isPlain }: { length: number; isPlain: boolean },
): { unit: number; measure: Cut["measure"] } {
  // Told now, not when all of it has been copied.
  if (most !== undefined && isPlain && length > most * bytes) {
    const enough = 2 ** Math.ceil(Math.log2(length / most));
    throw new FleetError(`an object has ${most} chunks at most: ${hint(enough)}`);
  }
  const share = isPlain ? Math.max(shareOf(length), 2 * bytes) : STEP_CHUNKS * bytes;
  return { unit: Math.max(STEP_UNIT, partUnit), measure: { share, unit: Math.max(STEP_UNIT, bytes) } };
}
