/**
 * In which parts a disk is copied, and in which steps.
 *
 * Invariants: only a raw file is cut, since its parts lie where they will be; a disk in an object store has one writer, and steps that
 * fill its chunks.
 */
import { type FleetJob, FleetError } from "../../fleet/jobs.ts";
import { type Cut, shareOf, STEP_UNIT } from "./steps.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
/** A raw disk of so many bytes is cut, without being asked for, into shards of so many at least, and so many shards at most. */
const SHARDED_BYTES = 128 * GiB;
const SHARD_BYTES = 16 * GiB;
const MOST_SHARDS = 256;
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
  const partBytes = partBytesOf(job, length);
  const isCut = partBytes < length;
  if (isCut && !(isFile && isPlain)) {
    const { shards, shardBytes } = job.options;
    if (shards !== undefined || shardBytes !== undefined)
      throw new FleetError("only a raw file is written in shards: leave out 'shards' and 'shardBytes'");
  }
  const whole = Math.max(1, length);
  if (isFile)
    return {
      partBytes: isCut && isPlain ? partBytes : whole,
      measure: { share: shareOf(length), unit: STEP_UNIT },
    };
  return { partBytes: whole, measure: measureOf(target, { length, isPlain }) };
}

function partBytesOf({ options: { shards, shardBytes } }: FleetJob, length: number): number {
  const aligned = (bytes: number): number => Math.max(STEP_UNIT, Math.ceil(bytes / STEP_UNIT) * STEP_UNIT);
  if (shards !== undefined && shardBytes !== undefined)
    throw new FleetError("options 'shards' and 'shardBytes' can't be used together");
  if (shardBytes !== undefined) return shardBytes === 0 ? length : aligned(shardBytes);
  if (shards !== undefined) return aligned(length / Math.max(1, shards));
  return length < SHARDED_BYTES ? length : aligned(Math.max(SHARD_BYTES, length / MOST_SHARDS));
}

function measureOf(
  target: string,
  { length, isPlain }: { length: number; isPlain: boolean },
): Cut["measure"] {
  const query = new URLSearchParams(target.replace(/^[^?]*\??/, ""));
  const [, digits, unit = ""] = /^(\d+)([KMG]?)$/i.exec(query.get("chunk-size") ?? "") ?? [];
  const said = Number(digits) * 1024 ** ["", "K", "M", "G"].indexOf(unit.toUpperCase());
  const isObject = query.get("form") !== "chunks";
  const chunk = said > 0 ? said : isObject ? OBJECT_CHUNK : DISK_CHUNK;
  // Told now, not when all of it has been copied.
  if (isObject && isPlain && length > OBJECT_CHUNKS * chunk) {
    const enough = 2 ** Math.ceil(Math.log2(length / OBJECT_CHUNKS));
    throw new FleetError(
      `an object has ${OBJECT_CHUNKS} chunks at most: say '?chunk-size=${enough}' behind the target's name, or 'form=chunks'`,
    );
  }
  if (isPlain) return { share: Math.max(shareOf(length), 2 * chunk), unit: Math.max(STEP_UNIT, chunk) };
  return { share: STEP_CHUNKS * chunk, unit: Math.max(STEP_UNIT, chunk) };
}
