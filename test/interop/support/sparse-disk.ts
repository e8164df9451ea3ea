// What a disk should hold, in memory: only pages that hold something are kept, so that a disk of terabytes costs what was
// written to it.
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";

const PAGE = 65536;

/** A model of a disk. Offsets and sizes in bytes. */
export class SparseDisk {
  size: number;
  readonly #pages: Map<number, Uint8Array>;

  constructor(size: number, pages: ReadonlyMap<number, Uint8Array> = new Map()) {
    this.size = size;
    this.#pages = new Map([...pages].map(([index, page]) => [index, page.slice()]));
  }

  /** A copy that goes its own way. */
  clone(): SparseDisk {
    return new SparseDisk(this.size, this.#pages);
  }

  /** Sets a range to one value. */
  fill(offset: number, bytes: number, value: number): void {
    const end = Math.min(offset + bytes, this.size);
    for (let at = offset; at < end;) {
      const index = Math.floor(at / PAGE);
      const to = Math.min(end, (index + 1) * PAGE);
      if (value === 0 && to - at === PAGE) this.#pages.delete(index);
      else if (value !== 0 || this.#pages.has(index)) {
        const page = this.#pages.get(index) ?? new Uint8Array(PAGE);
        page.fill(value, at - index * PAGE, to - index * PAGE);
        this.#pages.set(index, page);
      }
      at = to;
    }
  }

  /** Cuts the disk, or lets it grow by zeroes. */
  resize(size: number): void {
    const old = this.size;
    if (size < old) {
      for (const [index, page] of this.#pages) {
        if (index * PAGE >= size) this.#pages.delete(index);
        else if ((index + 1) * PAGE > size) page.fill(0, size - index * PAGE);
      }
    }
    this.size = size;
  }

  /** The content over a backing disk: zeroes where that one is too short. */
  over(size: number): SparseDisk {
    const copy = this.clone();
    copy.resize(size);
    return copy;
  }

  /** Fills `buffer` with what lies at `offset`. */
  read(offset: number, buffer: Uint8Array): void {
    buffer.fill(0);
    for (const [start, page] of this.pages(offset, offset + buffer.byteLength)) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + buffer.byteLength, start + PAGE);
      buffer.set(page.subarray(from - start, to - start), from - offset);
    }
  }

  /** Pages that hold something within the range, by their offset. */
  *pages(from = 0, to = this.size): Generator<[offset: number, page: Uint8Array]> {
    if ((to - from) / PAGE > this.#pages.size) {
      for (const [index, page] of this.#pages) {
        if (index * PAGE < to && (index + 1) * PAGE > from) yield [index * PAGE, page];
      }
      return;
    }
    for (let index = Math.floor(from / PAGE); index * PAGE < to; index++) {
      const page = this.#pages.get(index);
      if (page) yield [index * PAGE, page];
    }
  }

  /** Writes the disk as a sparse raw file. */
  dump(path: string): void {
    const file = openSync(path, "w");
    ftruncateSync(file, this.size);
    for (const [offset, page] of this.pages())
      writeSync(file, page, 0, Math.min(PAGE, this.size - offset), offset);
    closeSync(file);
  }
}
