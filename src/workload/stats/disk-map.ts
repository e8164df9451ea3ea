/**
 * Which parts of the disk were read and changed over time: bytes by part and interval, in a table of bounded size. Where a run goes on
 * beyond the last interval, neighbours are joined.
 */
import type { Operation } from "../model/plan.ts";

/** The shortest interval, ns. */
const FIRST_NS = 1e6;
/** Most intervals; even. */
const MOST = 32;
/** Parts of the disk. */
const PARTS = 64;

/** A map in a result. */
export interface DiskMapJson {
  readonly intervalNs: number;
  /** Bytes of a part; the last one may be shorter. */
  readonly partBytes: number;
  /** Bytes read, by interval and part. */
  readonly read: readonly (readonly number[])[];
  /** Bytes written, zeroed and discarded. */
  readonly changed: readonly (readonly number[])[];
}

interface Row {
  readonly read: Float64Array;
  readonly changed: Float64Array;
}

function empty(): Row {
  return { read: new Float64Array(PARTS), changed: new Float64Array(PARTS) };
}

function joined(one: Row, other: Row | undefined): Row {
  if (other)
    for (const kind of ["read", "changed"] as const)
      for (let i = 0; i < PARTS; i++) one[kind][i]! += other[kind][i]!;
  return one;
}

/** A request that has ended. */
export interface Touched {
  readonly operation: Operation;
  readonly offset: number;
  readonly bytes: number;
  /** Since the begin of the run. */
  readonly atNs: number;
}

/** The map of one run. */
export class DiskMap {
  readonly #partBytes: number;
  #intervalNs = FIRST_NS;
  #rows: Row[] = [];

  /** `length`: of the disk, bytes. */
  constructor(length: number) {
    this.#partBytes = Math.max(512, Math.ceil(length / PARTS / 512) * 512);
  }

  /** Counts a request by when it ended. */
  record({ operation, offset, bytes, atNs }: Touched): void {
    if (operation === "flush") return;
    while (atNs >= this.#intervalNs * MOST) this.#halve();
    const at = Math.floor(atNs / this.#intervalNs);
    while (this.#rows.length <= at) this.#rows.push(empty());
    const row = this.#rows[at]![operation === "read" ? "read" : "changed"];
    const end = offset + bytes;
    for (let part = Math.floor(offset / this.#partBytes); part < PARTS; part++) {
      const from = Math.max(offset, part * this.#partBytes);
      const to = Math.min(end, (part + 1) * this.#partBytes);
      if (from >= to) break;
      row[part]! += to - from;
    }
  }

  #halve(): void {
    const rows: Row[] = [];
    for (let i = 0; i < this.#rows.length; i += 2) rows.push(joined(this.#rows[i]!, this.#rows[i + 1]));
    this.#rows = rows;
    this.#intervalNs *= 2;
  }

  /** What results tell. */
  toJSON(): DiskMapJson {
    return {
      intervalNs: this.#intervalNs,
      partBytes: this.#partBytes,
      read: this.#rows.map(({ read }) => [...read]),
      changed: this.#rows.map(({ changed }) => [...changed]),
    };
  }
}
