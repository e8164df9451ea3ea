/**
 * What each sector of the disk may hold, so that reads can be judged: it knows writes that failed (each sector is the old or the
 * new one: a write may be torn), discards (old or zero), and what was never written.
 *
 * Invariants: requests that meet are told one after the other (the run holds their ranges); a sector of which nothing is known
 * holds what it held at the begin, and is learnt from the first read.
 */
import type { BlockBackend } from "../../block/graph/backend.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import type { Request } from "../stream/requests.ts";

/** Unit of what is known, bytes: no write is torn within one. */
const SECTOR = 512;

/** Most sectors that are told one by one. */
const MOST = 100;

/** What a sector may hold: hashes. */
type Choices = readonly bigint[];

/** What a verified run tells. */
export interface Verified {
  readonly sectorsRead: number;
  /** Sectors that held what nobody wrote there. */
  readonly corrupt: number;
  /** Offsets of the first of them, bytes. */
  readonly first: readonly number[];
}

/** The ledger of one disk. */
export class Ledger {
  readonly #kernels: Kernels;
  readonly #sectors = new Map<number, Choices>();
  readonly #zero: bigint;
  readonly #first: number[] = [];
  #read = 0;
  #corrupt = 0;

  constructor(kernels: Kernels) {
    this.#kernels = kernels;
    this.#zero = kernels.xxh3(new Uint8Array(SECTOR));
  }

  /** What was found. */
  get verified(): Verified {
    return { sectorsRead: this.#read, corrupt: this.#corrupt, first: this.#first };
  }

  /** A request that changes the disk has ended. */
  changed({ operation, offset, bytes }: Request, buffer: Uint8Array | undefined, failed: boolean): void {
    if (operation === "flush") return;
    for (let at = 0; at < bytes; at += SECTOR) {
      const sector = Math.floor((offset + at) / SECTOR);
      // A part of a sector leaves what nobody can name beforehand.
      const isWhole = (offset + at) % SECTOR === 0 && at + SECTOR <= bytes;
      if (!isWhole) this.#sectors.delete(sector);
      else this.#change(sector, this.#hashOf(operation, buffer, at), failed || operation === "discard");
    }
    if (offset % SECTOR !== 0) this.#sectors.delete(Math.floor((offset + bytes - 1) / SECTOR));
  }

  #hashOf(operation: Request["operation"], buffer: Uint8Array | undefined, at: number): bigint {
    if (operation !== "write") return this.#zero;
    return this.#kernels.xxh3(buffer!.subarray(at, at + SECTOR));
  }

  #change(sector: number, hash: bigint, keepsOld: boolean): void {
    const old = this.#sectors.get(sector);
    if (!keepsOld) this.#sectors.set(sector, [hash]);
    // Of what is not known anything may be left.
    else if (old) this.#sectors.set(sector, [...new Set([...old, hash])]);
  }

  /** Compares what was read; each sector is known from then on. */
  check(offset: number, buffer: Uint8Array): void {
    const skipped = (SECTOR - (offset % SECTOR)) % SECTOR;
    for (let at = skipped; at + SECTOR <= buffer.length; at += SECTOR) {
      const sector = (offset + at) / SECTOR;
      const hash = this.#kernels.xxh3(buffer.subarray(at, at + SECTOR));
      const choices = this.#sectors.get(sector);
      this.#read += 1;
      if (choices && !choices.includes(hash)) this.#complain(sector);
      this.#sectors.set(sector, [hash]);
    }
  }

  #complain(sector: number): void {
    this.#corrupt += 1;
    if (this.#first.length < MOST) this.#first.push(sector * SECTOR);
  }

  /** Reads all that is known of the disk, and compares it. Sectors that can't be read are left out, and counted. */
  async checkAll(backend: BlockBackend): Promise<{ unreadable: number }> {
    const buffer = new Uint8Array(SECTOR);
    let unreadable = 0;
    for (const sector of [...this.#sectors.keys()].toSorted((a, b) => a - b)) {
      try {
        await backend.pread(sector * SECTOR, buffer);
        this.check(sector * SECTOR, buffer);
      } catch {
        unreadable += 1;
      }
    }
    return { unreadable };
  }
}
