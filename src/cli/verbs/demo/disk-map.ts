/**
 * A map of the disk on the terminal: one character for a stretch of the disk, by what it holds in the source and how far
 * its copy is. On a terminal it is drawn in place; elsewhere only at the moments that count.
 */
import { MirrorJob } from "../../../job/mirror/job.ts";
import type { BlockJob, MapExtent } from "../../../node.ts";
import { type Display, type RateMeter, progressLine } from "../../progress.ts";
import { hasColours, styled } from "../../percent.ts";

/** What a cell shows, the most urgent last. */
const kinds = [
  { name: "absent", sign: "·", style: "90" },
  { name: "zero", sign: "░", style: "90" },
  { name: "data", sign: "▒", style: "" },
  { name: "copied", sign: "█", style: "32" },
  { name: "dirty", sign: "▓", style: "33" },
  { name: "in flight", sign: "◆", style: "36" },
  { name: "failed", sign: "✖", style: "1;31" },
] as const;

const ROWS = 8;
const MAX_COLUMNS = 96;

/** Kinds by number. */
export const Cell = { absent: 0, zero: 1, data: 2, copied: 3, dirty: 4, inFlight: 5, failed: 6 } as const;

/** The cells of a disk. */
export class DiskMap {
  /** Bytes of a cell. */
  readonly cellBytes: number;
  readonly cells: Uint8Array;
  readonly #length: number;
  readonly #source: Uint8Array;

  /** `extents` are those of the source; cells hold whole multiples of 64 KiB. */
  constructor(init: { length: number; count: number; extents: readonly MapExtent[] }) {
    this.#length = init.length;
    const unit = 65536;
    this.cellBytes = Math.max(unit, Math.ceil(init.length / init.count / unit) * unit);
    const count = Math.max(1, Math.ceil(init.length / this.cellBytes));
    this.#source = new Uint8Array(count);
    this.cells = new Uint8Array(count);
    for (const { offset, bytes, data, zero, present } of init.extents) {
      const kind = data && !zero ? Cell.data : present ? Cell.zero : Cell.absent;
      this.#raise(this.#source, { offset, bytes }, kind);
    }
    this.cells.set(this.#source);
  }

  /** Looks at the job again. */
  update(job: BlockJob): void {
    if (!(job instanceof MirrorJob)) return;
    // The bitmap is gone when the job is over; what was dirty then is what was not copied.
    if (job.isCompleted) return this.#finish(job);
    this.cells.set(this.#source);
    for (let index = 0; index < this.cells.length; index++) {
      const start = index * this.cellBytes;
      const end = Math.min(this.#length, start + this.cellBytes);
      const isDirty = job.bitmap.bitmap.nextDirty(start, end) >= 0;
      if (isDirty) this.cells[index] = Cell.dirty;
      else if (job.offset > 0 && this.#source[index] === Cell.data) this.cells[index] = Cell.copied;
    }
    for (const range of job.rangesInFlight) this.#raise(this.cells, range, Cell.inFlight);
    const { lastFailure: failed } = job;
    if (job.ioStatus !== "ok" && failed?.offset !== undefined)
      this.#raise(this.cells, { offset: failed.offset, bytes: failed.bytes ?? 1 }, Cell.failed);
  }

  #finish(job: BlockJob): void {
    if (job.error) return;
    for (let index = 0; index < this.cells.length; index++)
      this.cells[index] = this.#source[index] === Cell.data ? Cell.copied : this.#source[index]!;
  }

  #raise(cells: Uint8Array, range: { offset: number; bytes: number }, kind: number): void {
    const last = Math.min(cells.length - 1, Math.floor((range.offset + range.bytes - 1) / this.cellBytes));
    for (let index = Math.floor(range.offset / this.cellBytes); index <= last; index++)
      cells[index] = Math.max(cells[index]!, kind);
  }
}

/** The map as lines of text, and its legend. */
export function drawMap(map: DiskMap, { columns, colours }: { columns: number; colours: boolean }): string[] {
  const lines: string[] = [];
  for (let at = 0; at < map.cells.length; at += columns) {
    lines.push(drawRow(map.cells.subarray(at, at + columns), colours));
  }
  const legend = kinds.map(({ name, sign, style }) => `${styled(sign, style, colours)} ${name}`);
  lines.push(legend.join("  "));
  return lines;
}

/** One row; neighbours that are alike share their colour codes. */
function drawRow(cells: Uint8Array, colours: boolean): string {
  let text = "";
  for (let at = 0, end = 0; at < cells.length; at = end) {
    while (end < cells.length && cells[end] === cells[at]) end += 1;
    const { sign, style } = kinds[cells[at]!]!;
    text += styled(sign.repeat(end - at), style, colours);
  }
  return text;
}

/** Shows map and progress of one mirror. */
export class MapDisplay implements Display {
  readonly #columns: number;
  readonly #inPlace: boolean;
  readonly #colours: boolean;
  #map: DiskMap | undefined;
  #drawn = 0;

  constructor() {
    this.#inPlace = process.stderr.isTTY;
    this.#colours = hasColours(process.stderr);
    this.#columns = Math.min(MAX_COLUMNS, (process.stderr.columns || 66) - 2);
  }

  /** Drawn again and again; else only at the moments that count. */
  get inPlace(): boolean {
    return this.#inPlace;
  }

  /** Begins a map. */
  show(length: number, extents: readonly MapExtent[]): void {
    this.#map = new DiskMap({ length, count: this.#columns * ROWS, extents });
  }

  draw(job: BlockJob, meter: RateMeter): void {
    if (!this.#map) return;
    this.#map.update(job);
    if (this.#inPlace) this.#write(job, meter);
  }

  stopped(job: BlockJob, meter: RateMeter): void {
    this.#map?.update(job);
    this.#write(job, meter);
    this.finish();
  }

  /** Shows the state for good, whatever the terminal. */
  snapshot(job: BlockJob, meter: RateMeter): void {
    this.#map?.update(job);
    this.#write(job, meter);
    this.finish();
  }

  #write(job: BlockJob, meter: RateMeter): void {
    if (!this.#map) return;
    this.clear();
    const lines = drawMap(this.#map, { columns: this.#columns, colours: this.#colours });
    lines.push(progressLine(job, meter));
    process.stderr.write(`${lines.join("\n")}\n`);
    this.#drawn = lines.length;
  }

  clear(): void {
    if (this.#drawn > 0 && this.#inPlace) process.stderr.write(`\u001B[${this.#drawn}A\u001B[J`);
    this.#drawn = 0;
  }

  finish(): void {
    this.#drawn = 0;
  }
}
