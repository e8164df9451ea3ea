/**
 * The options of convert that are lists and numbers, read and checked as qemu-img reads them.
 */
import { optionLists } from "../../options/rows.ts";
import { bytesArgument, sizeArgument } from "../../options/sizes.ts";
import { Refusal } from "../../refusal.ts";

const MAX_SPARSE = 16_777_216n;
const MAX_PARALLEL = 16;

/** The options as they were written. */
export interface NumberFlags {
  option?: string[];
  sparse?: string;
  parallel?: string;
  rateLimit?: string;
  compressionLevel?: string;
}

/** What was read. */
export interface ConvertNumbers {
  /** What each -o said. */
  lists: readonly string[];
  /** -S, bytes; undefined: not given. */
  sparseBytes: number | undefined;
  /** -m. */
  parallel: number | undefined;
  /** -r; 0: no limit. */
  speedBytesPerSecond: number;
  /** --compression-level; the format's compressor bounds it. */
  compressionLevel: number | undefined;
}

/** Reads them. Throws Refusal. */
export function convertNumbers(flags: NumberFlags): ConvertNumbers {
  const lists = optionLists(flags.option);
  return {
    lists,
    sparseBytes: sparse(flags.sparse),
    parallel: parallelism(flags.parallel),
    speedBytesPerSecond: rateLimit(flags.rateLimit),
    compressionLevel: level(flags.compressionLevel),
  };
}

/** A rate limit, bytes per second; 0: none. Throws Refusal. */
export function rateLimit(text: string | undefined): number {
  return text === undefined ? 0 : bytesArgument("rate limit", text);
}

function level(text: string | undefined): number | undefined {
  if (text === undefined || /^[1-9]\d?$/.test(text)) return text === undefined ? undefined : Number(text);
  throw new Refusal(`Invalid level of compression: ${text}`);
}

function sparse(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = sizeArgument("buffer size for sparse output", text);
  if (value % 512n === 0n && value <= MAX_SPARSE) return Number(value);
  throw new Refusal(
    "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to " +
      `${MAX_SPARSE}. Select 0 to disable sparse detection (fully allocates output).`,
  );
}

function parallelism(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= MAX_PARALLEL) return count;
  throw new Refusal(
    `Invalid number of coroutines. Allowed number of coroutines is between 1 and ${MAX_PARALLEL}`,
  );
}
