/**
 * In which parts a disk is copied, and in which steps.
 *
 * Invariants: only a raw disk is cut, since its parts lie where they will be; of a disk in an object store parts and steps end where its
 * chunks do.
 */
import { PAGE_CHUNKS } from "../../drivers/protocol/http/s3/format.ts";
import { alignUp } from "../../base/ranges.ts";
import { type FleetJob, FleetError } from "../../fleet/jobs.ts";
import { type Cut, shareOf, STEP_UNIT } from "./steps.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
/** A raw disk of so many bytes is cut, without being asked for, into shards of so many at least, and so many shards at most. */
const SHARDED_BYTES = 128 * GiB;
const SHARD_BYTES = 16 * GiB;
const MOST_SHARDS = 256;
/** As many as may be asked for. */
const BOUND_SHARDS = 4096;
/** What a store's driver takes for a chunk of what becomes an object, and of a disk in chunks. */
const OBJECT_CHUNK = 8 * MiB;
const DISK_CHUNK = MiB;
/** Chunks that a step fills whose image is no raw one: a flush stores those of its tables again. */
const STEP_CHUNKS = 32;
/** Of how many chunks a store joins an object at most. */
const OBJECT_CHUNKS = 10_000;

/** How a job's disk is cut. Throws FleetError for shards of what can't be cut. */
export function cutOf(
  job: FleetJob,
  {
    length,
    target,
    isFile,
    isPlain,
  }: {
    readonly length: number;
    readonly target: string;
    readonly isFile: boolean;
    readonly isPlain: boolean;
  },
): Cut {
  const { shards, shardBytes } = job.options;
  const { unit, measure } = isFile
    ? { unit: STEP_UNIT, measure: { share: shareOf(length), unit: STEP_UNIT } }
    : measuresOf(target, { length, isPlain });
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
  target: string,
  { length, isPlain }: { length: number; isPlain: boolean },
): { unit: number; measure: Cut["measure"] } {
  const query = new URLSearchParams(target.replace(/^[^?]*\??/, ""));
  const [, digits, letter = ""] = /^(\d+)([KMG]?)$/i.exec(query.get("chunk-size") ?? "") ?? [];
  const said = Number(digits) * 1024 ** ["", "K", "M", "G"].indexOf(letter.toUpperCase());
  const isObject = query.get("form") !== "chunks";
  const chunk = said > 0 ? said : isObject ? OBJECT_CHUNK : DISK_CHUNK;
  // Told now, not when all of it has been copied.
  if (isObject && isPlain && length > OBJECT_CHUNKS * chunk) {
    const enough = 2 ** Math.ceil(Math.log2(length / OBJECT_CHUNKS));
    throw new FleetError(
      `an object has ${OBJECT_CHUNKS} chunks at most: say '?chunk-size=${enough}' behind the target's name, or 'form=chunks'`,
    );
  }
  const share = isPlain ? Math.max(shareOf(length), 2 * chunk) : STEP_CHUNKS * chunk;
  // A page of the index is of one part.
  const unit = Math.max(STEP_UNIT, isObject ? chunk : PAGE_CHUNKS * chunk);
  return { unit, measure: { share, unit: Math.max(STEP_UNIT, chunk) } };
}
