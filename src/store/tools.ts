/**
 * What the store needs from the outside: hashes, compressors, a clock, randomness, and where its objects are kept.
 */
import type { Clock, HostCodecs, Random } from "../base/host.ts";
import type { ObjectStore } from "../base/objects.ts";

/** A process that is at work in a repository. */
export interface Worker {
  readonly host: string;
  /** The machine's boot, and its space of process numbers; absent or empty: nothing is known of that. */
  readonly machine?: string;
  readonly pid: number;
  /** When the process began, in the machine's own measure. */
  readonly start?: string;
}

/** The tools of a store. */
export interface StoreTools {
  readonly objects: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly codecs: HostCodecs;
  /** SHA-256: 32 bytes. What a chunk is called. */
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  /** XXH3-64: a quick look at whether stored bytes are still what was written. */
  readonly xxh3: (bytes: Uint8Array) => bigint;
  /** Who is at work here, for others to see. */
  readonly self: Worker;
  /** Whether a process of this machine lives. */
  readonly isAlive: (worker: Pick<Worker, "pid" | "start">) => boolean;
}

/** A store far away answers several as fast as one. */
const AT_ONCE = 16;

/** Asks something of each, of a few at once, and answers in their order. Whoever has heard enough ends it. */
export async function* askEach<T, R>(
  all: readonly T[],
  ask: (one: T) => Promise<R>,
): AsyncGenerator<readonly [T, R]> {
  for (let at = 0; at < all.length; at += AT_ONCE) {
    const some = all.slice(at, at + AT_ONCE);
    const answers = await Promise.all(some.map(ask));
    for (const [which, one] of some.entries()) yield [one, answers[which]!];
  }
}

/** Bytes of a SHA-256. */
export const HASH_BYTES = 32;

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** A hash in hexadecimal digits. */
export function hex(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 1) text += DIGITS[bytes[at]!]!;
  return text;
}

/** Whether two arrays hold the same. */
export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return false;
  return true;
}

/** The bytes of so many hexadecimal digits; undefined where they are something else. */
export function fromHex(text: string, bytes: number): Uint8Array | undefined {
  if (text.length !== 2 * bytes || !/^[0-9a-f]*$/.test(text)) return undefined;
  return Uint8Array.from({ length: bytes }, (_, at) => Number.parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

/** The time as ISO 8601. */
export function isoTime({ clock }: Pick<StoreTools, "clock">): string {
  return new Date(clock.wallMicroseconds() / 1000).toISOString();
}

/** A name for something new: the time to the second, and four random bytes. Later ones come later in order. */
export function newName(tools: Pick<StoreTools, "clock" | "random">): string {
  const time = isoTime(tools).replace(/[-:]|\.\d+/g, "");
  return `${time}-${tools.random
    .below(2 ** 32)
    .toString(16)
    .padStart(8, "0")}`;
}

/** The place of the last number, of ascending ones whose first is no more, that is no more than `limit`. */
export function lastUpTo(numbers: readonly number[], limit: number): number {
  let [low, high] = [0, numbers.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (numbers[middle]! <= limit) low = middle;
    else high = middle - 1;
  }
  return low;
}
