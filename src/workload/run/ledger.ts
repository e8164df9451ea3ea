/**
 * What each sector of the disk may hold, so that reads can be judged: it knows writes that failed (each sector is the old or the
 * new one: a write may be torn), discards (old or zero), what was never written, and power cuts: after one, a sector holds what the
 * last flush made durable, or anything that was asked for since.
 *
 * Invariants: requests that meet are told one after the other (the run holds their ranges); a sector of which nothing is known
 * holds what it held at the begin (zeroes, of a disk that was blank), and is learnt from the first read.
 */
import type { BlockBackend } from "../../block/graph/backend.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import { GRANULE, dataGranules } from "../stream/digest.ts";
import type { Request } from "../stream/requests.ts";

/** Unit of what is known, bytes: no write is torn within one. */
const SECTOR = 512;

/** Most sectors that are told one by one. */
const MOST = 100;

/** What a sector may hold: hashes; undefined: anything. */
type Choices = readonly bigint[] | undefined;

/** A change that no flush has covered yet. */
interface Pending {
  readonly order: number;
  readonly hash: bigint;
  /** It has taken place. */
  readonly sure: boolean;
}

interface Sector {
  now: Choices;
  /** What is durable at least. */
  durable: Choices;
  pending: Pending[];
}

/** What a verified run tells. */
export interface Verified {
  readonly sectorsRead: number;
  /** Sectors that held what nobody wrote there. */
  readonly corrupt: number;
  /** Offsets of the first of them, bytes. */
  readonly first: readonly number[];
}

function joined(one: Choices, hash: bigint): Choices {
  if (one === undefined || one.includes(hash)) return one;
  return [...one, hash];
}

/** The ledger of one disk. */
export class Ledger {
  readonly #kernels: Kernels;
  readonly #sectors = new Map<number, Sector>();
  readonly #zero: bigint;
  readonly #first: number[] = [];
  /** Sectors with changes that no flush has covered. */
  readonly #unflushed = new Set<number>();
  #order = 0;
  #read = 0;
  #corrupt = 0;
  /** All of the disk was zero at the begin. */
  isBlank = false;

  constructor(kernels: Kernels) {
    this.#kernels = kernels;
    this.#zero = kernels.xxh3(new Uint8Array(SECTOR));
  }

  /** What was found. */
  get verified(): Verified {
    return { sectorsRead: this.#read, corrupt: this.#corrupt, first: this.#first };
  }

  /** What a flush that begins now covers. */
  mark(): number {
    return this.#order;
  }

  /** A flush has ended that began at a mark. */
  flushed(mark: number): void {
    for (const number of this.#unflushed) {
      const sector = this.#sectors.get(number)!;
      for (const { order, hash, sure } of sector.pending)
        if (order <= mark) sector.durable = sure ? [hash] : joined(sector.durable, hash);
      sector.pending = sector.pending.filter(({ order }) => order > mark);
      if (sector.pending.length === 0) this.#unflushed.delete(number);
    }
  }

  /** A request that changes the disk has ended. */
  changed(request: Request, buffer: Uint8Array | undefined, failed: boolean): void {
    const { operation, offset, bytes, fua } = request;
    if (operation === "flush") return;
    this.#order += 1;
    const end = offset + bytes;
    for (let number = Math.floor(offset / SECTOR); number * SECTOR < end; number++) {
      const at = number * SECTOR - offset;
      // A part of a sector leaves what nobody can name beforehand.
      if (at < 0 || at + SECTOR > bytes) this.#forget(number);
      else {
        const hash = operation === "write" ? this.#hashOf(buffer!, at) : this.#zero;
        this.#change(number, hash, { sure: !failed && operation !== "discard", fua: fua && !failed });
      }
    }
  }

  #hashOf(buffer: Uint8Array, at: number): bigint {
    return this.#kernels.xxh3(buffer.subarray(at, at + SECTOR));
  }

  #sector(number: number): Sector {
    let sector = this.#sectors.get(number);
    if (!sector) {
      const known = this.isBlank ? [this.#zero] : undefined;
      this.#sectors.set(number, (sector = { now: known, durable: known, pending: [] }));
    }
    return sector;
  }

  #forget(number: number): void {
    this.#sectors.set(number, { now: undefined, durable: undefined, pending: [] });
    this.#unflushed.delete(number);
  }

  #change(number: number, hash: bigint, { sure, fua }: { sure: boolean; fua: boolean }): void {
    const sector = this.#sector(number);
    sector.now = sure ? [hash] : joined(sector.now, hash);
    if (fua) {
      sector.durable = [hash];
      sector.pending = [];
      this.#unflushed.delete(number);
    } else this.#wait(number, sector, { order: this.#order, hash, sure });
  }

  #wait(number: number, sector: Sector, change: Pending): void {
    sector.pending.push(change);
    this.#unflushed.add(number);
  }

  /** Compares what was read; each sector is known from then on. */
  check(offset: number, buffer: Uint8Array): void {
    const skipped = (SECTOR - (offset % SECTOR)) % SECTOR;
    for (let at = skipped; at + SECTOR <= buffer.length; at += SECTOR) {
      const number = (offset + at) / SECTOR;
      const hash = this.#hashOf(buffer, at);
      const sector = this.#sector(number);
      this.#read += 1;
      if (sector.now && !sector.now.includes(hash)) this.#complain(number);
      if (sector.now?.length !== 1 || sector.now[0] !== hash) this.#learn(number, sector, hash);
    }
  }

  /** What was open is settled: it is so now, and is so after the next flush. */
  #learn(number: number, sector: Sector, hash: bigint): void {
    sector.now = [hash];
    if (sector.pending.length === 0) sector.durable = [hash];
    else this.#wait(number, sector, { order: this.#order, hash, sure: true });
  }

  #complain(number: number): void {
    this.#corrupt += 1;
    if (this.#first.length < MOST) this.#first.push(number * SECTOR);
  }

  /** The power was cut: what is not durable may be there or not. */
  cut(): void {
    for (const number of this.#unflushed) {
      const sector = this.#sectors.get(number)!;
      sector.now = sector.pending.reduce((choices, { hash }) => joined(choices, hash), sector.durable);
      sector.durable = sector.now;
      sector.pending = [];
    }
    this.#unflushed.clear();
  }

  /** Reads all that may be known of the disk, and compares it. Sectors that can't be read are left out, and counted. */
  async checkAll(backend: BlockBackend): Promise<{ unreadable: number }> {
    const granules = new Set(
      [...this.#sectors.keys()].map((number) => Math.floor((number * SECTOR) / GRANULE)),
    );
    if (this.isBlank)
      for await (const granule of dataGranules(backend.node!, backend.length)) granules.add(granule);
    let unreadable = 0;
    const buffer = new Uint8Array(GRANULE);
    for (const granule of [...granules].toSorted((a, b) => a - b)) {
      const offset = granule * GRANULE;
      const whole = buffer.subarray(0, Math.min(GRANULE, backend.length - offset));
      if (await this.#compare(backend, offset, whole)) continue;
      for (let at = 0; at < whole.length; at += SECTOR)
        if (!(await this.#compare(backend, offset + at, whole.subarray(at, at + SECTOR)))) unreadable += 1;
    }
    return { unreadable };
  }

  async #compare(backend: BlockBackend, offset: number, buffer: Uint8Array): Promise<boolean> {
    try {
      await backend.pread(offset, buffer);
    } catch {
      return false;
    }
    this.check(offset, buffer);
    return true;
  }
}
