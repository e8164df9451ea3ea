/**
 * Short transfers of files on the pool that wait for no disk, made in the caller's turn all the same: handing one over to a thread
 * and back takes several times longer than the bytes do.
 *
 * - A read that the kernel answers out of its memory: it is asked not to wait (RWF_NOWAIT), and what it does not have goes to the pool.
 * - A file of a file system that has no disk (tmpfs, ramfs): reads and writes.
 *
 * Invariant: nothing here waits for a disk in the caller's turn, which may be one that does not answer.
 * Source: preadv2(2), statfs(2).
 */
import * as fs from "node:fs";
import type { Answer } from "../../base/answer.ts";
import { KiB } from "../../base/limits.ts";
import type { FileFacts } from "./calls.ts";
import {
  type Lane,
  pooledTransfers,
  readInTurn,
  type TransferRequest,
  type Transfers,
  turnIfDue,
  writeInTurn,
} from "./lanes.ts";
import type { NativeCalls } from "./native.ts";

/** Longer transfers pay for a second processor. */
const SHORT_BYTES = 256 * KiB;
/** Not all is in memory. */
const EAGAIN = 11;
/** TMPFS_MAGIC and RAMFS_MAGIC. */
const WITHOUT_DISK: ReadonlySet<number> = new Set([0x01_02_19_94, 0x85_84_58_f6]);

/** The pool tells what is wrong with an offset that is none. */
function isShort({ buffer, offset, lane }: TransferRequest): boolean {
  return buffer.byteLength <= SHORT_BYTES && Number.isSafeInteger(offset) && offset >= 0 && !lane.givenUp;
}

/** Makes it now, or when the event loop has turned, if that is due. */
function inItsTurn<T>(transfer: () => Answer<T>): Answer<T> {
  const turn = turnIfDue();
  return turn ? turn.then(transfer) : transfer();
}

/** Of a file that lies in memory. */
export const memoryTransfers: Transfers = {
  read: (request) =>
    isShort(request) ? inItsTurn(() => readInTurn(request)) : pooledTransfers.read(request),
  write: (request) =>
    isShort(request) ? inItsTurn(() => writeInTurn(request)) : pooledTransfers.write(request),
};

/** Of one file that lies on a disk, as far as it is in memory. */
export class CachedTransfers implements Transfers {
  readonly #native: Pick<NativeCalls, "readCached">;
  #canTell = true;

  constructor(native: Pick<NativeCalls, "readCached">) {
    this.#native = native;
  }

  read(request: TransferRequest): Answer<number> {
    if (!this.#canTell || !isShort(request)) return pooledTransfers.read(request);
    return inItsTurn(() => this.#readCached(request));
  }

  write(request: TransferRequest): Answer<void> {
    return pooledTransfers.write(request);
  }

  #readCached(request: TransferRequest): Answer<number> {
    const { fd, buffer, offset } = request;
    const count = this.#native.readCached(fd, buffer, offset);
    if (count === buffer.byteLength) return count;
    // File systems and kernels that can't say so have other words than that.
    if (count < 0 && count !== -EAGAIN) this.#canTell = false;
    const done = Math.max(0, count);
    const rest = { ...request, buffer: buffer.subarray(done), offset: offset + done };
    return (pooledTransfers.read(rest) as Promise<number>).then((more) => done + more);
  }
}

/** Whether a file lies in memory, as far as that can be told without asking a disk in the caller's turn. */
async function isInMemory(lane: Lane, fd: number, { mode, dev }: FileFacts): Promise<boolean> {
  // What has no disk has no number of a device either, and most files are spared the question.
  const hasDevice = ((dev >> 8n) & 0xf_ffn) !== 0n;
  const isRegular = (Number(mode) & fs.constants.S_IFMT) === fs.constants.S_IFREG;
  if (process.platform !== "linux" || hasDevice || !isRegular) return false;
  const kind = (): Promise<number> => fs.promises.statfs(`/proc/self/fd/${fd}`).then(({ type }) => type);
  const answer = await lane.make({ call: "native", run: kind }, "open").catch(() => undefined);
  return typeof answer === "number" && WITHOUT_DISK.has(answer);
}

/** How the bytes of a file on the pool are moved best. */
export async function pooledOrAtHand(
  lane: Lane,
  { fd, facts, native }: { fd: number; facts: FileFacts; native: NativeCalls | undefined },
): Promise<Transfers> {
  if (await isInMemory(lane, fd, facts)) return memoryTransfers;
  return native ? new CachedTransfers(native) : pooledTransfers;
}
