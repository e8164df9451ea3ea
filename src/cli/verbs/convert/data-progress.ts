/**
 * How far a copy is, counted in the data that there is to copy: what reads as zeroes anyway takes no time. For that the block
 * status of the whole disk is asked for first. Source: behaviour of qemu-img convert 7.2.
 */
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { blockStatusAbove } from "../../../block/io/status.ts";
import { skipFilters } from "../../../block/model/chain.ts";
import type { Node } from "../../../node.ts";

/** A run of data, bytes of the disks laid end to end. */
interface DataRun {
  readonly offset: number;
  readonly bytes: number;
}

/** What was found, and how much of it lies before a place. */
export class DataProgress {
  readonly #runs: readonly DataRun[];
  /** Bytes of data in all. */
  readonly total: number;
  #index = 0;
  /** Bytes of the runs before the one that is looked at. */
  #before = 0;

  constructor(runs: readonly DataRun[]) {
    this.#runs = runs;
    this.total = runs.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Bytes of data before `position`, which only grows. */
  before(position: number): number {
    for (let run = this.#runs[this.#index]; run; run = this.#runs[this.#index]) {
      if (position < run.offset + run.bytes) return this.#before + Math.max(0, position - run.offset);
      this.#before += run.bytes;
      this.#index += 1;
    }
    return this.#before;
  }
}

/** Looks at all disks. `ownLayer`: what their backing files hold is not copied. What can't be told counts as data. */
export async function findData(
  sources: readonly Node[],
  { ownLayer, signal }: { ownLayer: boolean; signal: AbortSignal },
): Promise<DataProgress> {
  const runs: DataRun[] = [];
  let start = 0;
  for (const { blockNode: node, length } of sources) {
    const layers = { base: ownLayer ? skipFilters(node).backing?.node : undefined };
    for (let at = 0; at < length;) {
      signal.throwIfAborted();
      const rest = { data: true, bytes: length - at };
      const told = await Promise.resolve(blockStatusAbove(node, at, rest.bytes, layers)).catch(() => rest);
      const bytes = Math.max(told.bytes, 1);
      if (told.data) runs.push({ offset: start + at, bytes });
      at += bytes;
    }
    start += Math.ceil(length / SECTOR_SIZE) * SECTOR_SIZE;
  }
  return new DataProgress(runs);
}
