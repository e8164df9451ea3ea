/**
 * What a device would lose if its power were cut now: for each sector that was changed since it was made durable, what it held
 * before each change. A power cut leaves each such sector as it was before one of the changes, or as it is: writes are lost, torn
 * and carried out in another order, each sector for itself.
 *
 * Invariants: changes of a device are told one after the other; a flush makes durable what had ended when it began, and nothing
 * else; which version is left follows from the draws.
 */
import type { BlockDriver } from "../../block/model/contract.ts";
import type { Draws } from "../random/noise.ts";

/** Unit that is written whole or not at all, bytes. */
const SECTOR = 512;

/** A change of the device that has begun. */
export interface Change {
  readonly order: number;
  ended: boolean;
}

/** A sector's content before a change. */
interface Version {
  readonly change: Change;
  readonly before: Uint8Array;
}

/** What is not durable of one device. */
export class Volatile {
  readonly #driver: BlockDriver;
  readonly #sectors = new Map<number, Version[]>();
  #order = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(driver: BlockDriver) {
    this.#driver = driver;
  }

  /** Carries a change out, and keeps what was there before it. */
  change(offset: number, bytes: number, work: () => unknown): { change: Change; done: Promise<void> } {
    const change: Change = { order: ++this.#order, ended: false };
    const done = this.#turn.then(async () => {
      await this.#keep(change, offset, bytes);
      await work();
    });
    this.#turn = done.catch(() => undefined);
    return { change, done };
  }

  async #keep(change: Change, offset: number, bytes: number): Promise<void> {
    const from = Math.floor(offset / SECTOR) * SECTOR;
    const end = Math.min(Math.ceil((offset + bytes) / SECTOR) * SECTOR, this.#driver.length());
    if (end <= from) return;
    const old = new Uint8Array(end - from);
    await this.#driver.pread(from, old, 0);
    for (let at = 0; at < old.length; at += SECTOR) {
      const sector = (from + at) / SECTOR;
      const versions = this.#sectors.get(sector) ?? [];
      versions.push({ change, before: old.subarray(at, at + SECTOR) });
      this.#sectors.set(sector, versions);
    }
  }

  /** What a flush that begins now covers. */
  mark(): (change: Change) => boolean {
    const covered = new Set<Change>();
    for (const versions of this.#sectors.values())
      for (const { change } of versions) if (change.ended) covered.add(change);
    return (change) => covered.has(change);
  }

  /** A flush has ended: what it covers is durable, and what lies below that. */
  flushed(isCovered: (change: Change) => boolean): void {
    for (const [sector, versions] of this.#sectors) {
      const last = versions.findLastIndex(({ change }) => isCovered(change));
      if (last < 0) continue;
      if (last + 1 === versions.length) this.#sectors.delete(sector);
      else this.#sectors.set(sector, versions.slice(last + 1));
    }
  }

  /** The power is cut: the device holds from now on what is left. */
  async cut(draws: Draws): Promise<void> {
    await this.#turn;
    for (const sector of [...this.#sectors.keys()].toSorted((a, b) => a - b)) {
      const versions = this.#sectors.get(sector)!;
      const left = versions[draws.below(versions.length + 1)];
      if (left) await this.#driver.pwrite!(sector * SECTOR, left.before, 0);
    }
    this.#sectors.clear();
  }
}
