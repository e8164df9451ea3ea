/**
 * What a program has read of a disk lately, beside the program, so that it need not wait for another thread to read it again.
 *
 * Invariants: whole pages only; nothing is given out that was kept at another version than the one that holds now.
 */
import { alignDown, alignUp } from "../base/ranges.ts";

const PAGE = 4096;
/** Memory for pages, bytes. */
const CACHE_BYTES = 16 * 2 ** 20;
const SLOTS = CACHE_BYTES / PAGE;

/** Pages by their number, each in the one slot where it may be. */
export class ReadCache {
  /** Made when the first page is kept. */
  #bytes: Uint8Array | undefined;
  readonly #pages = new Float64Array(SLOTS).fill(-1);
  #version = 0;

  /** Fills the buffer, if all of it is here. Forgets everything if it is of another version. */
  read(into: Uint8Array, offset: number, version: number): boolean {
    if (version !== this.#version) {
      this.#pages.fill(-1);
      this.#version = version;
      return false;
    }
    if (!this.#bytes) return false;
    const end = offset + into.byteLength;
    for (let at = alignDown(offset, PAGE); at < end; at += PAGE) if (!this.#has(at)) return false;
    for (let at = alignDown(offset, PAGE); at < end; at += PAGE) {
      const [from, until] = [Math.max(at, offset), Math.min(at + PAGE, end)];
      const start = slotOf(at) * PAGE - at;
      into.set(this.#bytes.subarray(start + from, start + until), from - offset);
    }
    return true;
  }

  /** Keeps the whole pages of what was read at a version, or of what was written. */
  keep(data: Uint8Array, offset: number, version = this.#version): void {
    if (version !== this.#version) return;
    const bytes = (this.#bytes ??= new Uint8Array(CACHE_BYTES));
    const end = offset + data.byteLength;
    for (let at = alignUp(offset, PAGE); at + PAGE <= end; at += PAGE) {
      bytes.set(data.subarray(at - offset, at - offset + PAGE), slotOf(at) * PAGE);
      this.#pages[slotOf(at)] = at / PAGE;
    }
  }

  /** Forgets what lies in a range. */
  drop(offset: number, bytes: number): void {
    for (let at = alignDown(offset, PAGE); at < offset + bytes; at += PAGE)
      if (this.#has(at)) this.#pages[slotOf(at)] = -1;
  }

  #has(at: number): boolean {
    return this.#pages[slotOf(at)] === at / PAGE;
  }
}

function slotOf(at: number): number {
  return (at / PAGE) % SLOTS;
}

/** The pages around a range, as far as the disk goes. */
export function aroundPages(offset: number, bytes: number, length: number): [start: number, bytes: number] {
  const start = alignDown(offset, PAGE);
  return [start, Math.min(alignUp(offset + bytes, PAGE), length) - start];
}
