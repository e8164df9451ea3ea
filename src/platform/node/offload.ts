/**
 * Copies ranges from file to file within the system (copy_file_range(2)): on a file system that can, blocks are shared, or copied
 * by the server that has them; elsewhere the kernel copies, and no byte comes through here.
 *
 * Invariant: what is told as done is; the rest is for whoever asked, who so finds out why.
 */
import { Mutex } from "../../base/signals.ts";
import type { TwoRanges } from "./file-thread.ts";
import type { Lane } from "./lanes.ts";
import type { NativeCalls } from "./native.ts";

/** One call copies at most so much, so that a program ends soon that is asked to. A multiple of every file system's blocks. */
const MOST_BYTES = 2 ** 26;

/** Copies by one system call: bytes, 0 at the end of the file, or -errno. */
export type CopyCall = (range: TwoRanges) => Promise<number>;

/** The calls of a file, in its lane. */
export function copyCalls(native: NativeCalls, to: number, lane: Lane): CopyCall {
  return async ({ a, atA, atB, bytes }) => {
    const run = (): Promise<number> =>
      native.copyFileRange({ fd: a, offset: atA }, { fd: to, offset: atB }, Math.min(bytes, MOST_BYTES));
    return (await lane.make({ call: "native", run }, "pwrite")) as number;
  };
}

/** Copies into one file, one list after the other: the kernel lets no two in at once, and who waits there keeps a processor. */
export class Offload {
  readonly #turn = new Mutex();

  /** As copiedWithin(). */
  copy(ranges: readonly TwoRanges[], call: CopyCall): Promise<number[] | undefined> {
    return this.#turn.run(() => copiedWithin(ranges, call));
  }
}

/** Copies each range: bytes done of each from its start. Undefined: the system can't copy between these files, and nothing was. */
export async function copiedWithin(
  ranges: readonly TwoRanges[],
  copy: CopyCall,
): Promise<number[] | undefined> {
  const counts: number[] = [];
  for (const range of ranges) {
    const count = await copiedRange(range, copy);
    if (count === 0 && counts.length === 0) return undefined;
    counts.push(count);
    if (count < range.bytes) break;
  }
  return ranges.map((_range, index) => counts[index] ?? 0);
}

async function copiedRange({ a, atA, atB, bytes }: TwoRanges, copy: CopyCall): Promise<number> {
  let done = 0;
  while (done < bytes) {
    const count = await copy({ a, atA: atA + done, atB: atB + done, bytes: bytes - done });
    if (count <= 0) break;
    done += count;
  }
  return done;
}
