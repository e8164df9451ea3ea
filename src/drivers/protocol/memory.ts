/**
 * memory: a disk in memory, sparse in pages of 64 KiB, or over a buffer that the caller hands in. It stands for a real
 * disk in tests and browsers: it knows its holes, frees pages that are discarded or zeroed, grows by writes beyond its
 * end, and runs full at `max-bytes`.
 * Invariants: a page that is absent reads as zeroes; `pages * 64 KiB <= maxBytes`; bytes beyond the length are zero in
 * every page. A request that does not fit fails with ENOSPC and changes nothing.
 */
import { assert } from "../../base/assert.ts";
import { BlockError, type BlockErrorDetails } from "../../base/errors.ts";
import { KiB, limits } from "../../base/limits.ts";
import { Req } from "../../block/model/contract.ts";
import type { BlockDriver, BlockStatus, DriverType, RequestFlags } from "../../block/model/contract.ts";
import type { NodeView } from "../../block/model/contract.ts";
import { optionError, sizeOption } from "../../block/model/options.ts";

/** Bytes of a page, the unit of allocation. */
export const MEMORY_PAGE_BYTES = 64 * KiB;

/** One page's part of a request. */
interface Part {
  page: number;
  /** Offset in the page. */
  start: number;
  bytes: number;
  /** Offset in the request. */
  at: number;
}

function* parts(offset: number, bytes: number): Generator<Part> {
  for (let at = 0; at < bytes;) {
    const start = (offset + at) % MEMORY_PAGE_BYTES;
    const length = Math.min(bytes - at, MEMORY_PAGE_BYTES - start);
    yield { page: (offset + at - start) / MEMORY_PAGE_BYTES, start, bytes: length, at };
    at += length;
  }
}

/** A growable, sparse disk in memory. */
export class MemoryDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #pages = new Map<number, Uint8Array>();
  #length: number;
  #maxBytes: number;

  constructor(init: { node: NodeView; size: number; maxBytes: number }) {
    this.#node = init.node;
    this.#length = init.size;
    this.#maxBytes = init.maxBytes;
  }

  /** Moves the limit of `max-bytes`; pages that are already there stay. */
  setMaxBytes(maxBytes: number): void {
    this.#maxBytes = maxBytes;
  }

  length(): number {
    return this.#length;
  }

  pread(offset: number, buffer: Uint8Array): Promise<void> {
    for (const { page, start, bytes, at } of parts(offset, buffer.byteLength)) {
      const data = this.#pages.get(page);
      if (data) buffer.set(data.subarray(start, start + bytes), at);
      else buffer.fill(0, at, at + bytes);
    }
    return Promise.resolve();
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    this.#reserve("pwrite", offset, buffer.byteLength);
    for (const { page, start, bytes, at } of parts(offset, buffer.byteLength)) {
      let data = this.#pages.get(page);
      if (!data) this.#pages.set(page, (data = new Uint8Array(MEMORY_PAGE_BYTES)));
      data.set(buffer.subarray(at, at + bytes), start);
    }
    this.#length = Math.max(this.#length, offset + buffer.byteLength);
  }

  /** Holes stay holes. With `mayUnmap` whole pages are given back. */
  async pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    this.#checkEnd("pwriteZeroes", offset, bytes);
    this.#clear(offset, bytes, (flags & Req.mayUnmap) !== 0);
    this.#length = Math.max(this.#length, offset + bytes);
  }

  pdiscard(offset: number, bytes: number): Promise<void> {
    this.#clear(offset, bytes, true);
    return Promise.resolve();
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const page = Math.floor(offset / MEMORY_PAGE_BYTES);
    const data = this.#pages.has(page);
    const stop = data
      ? this.#endOfData(page)
      : this.#endOfHole(page, Math.ceil((offset + bytes) / MEMORY_PAGE_BYTES));
    const reach = Math.min(stop * MEMORY_PAGE_BYTES - offset, bytes);
    assert(stop > page, "a look finds something");
    return Promise.resolve({
      bytes: reach,
      data,
      zero: !data,
      allocated: true,
      map: { node: this.#node, offset },
    });
  }

  async truncate(size: number): Promise<void> {
    this.#checkEnd("truncate", 0, size);
    if (size < this.#length) this.#clear(size, this.#length - size, true);
    this.#length = size;
  }

  allocatedBytes(): Promise<number> {
    return Promise.resolve(this.#pages.size * MEMORY_PAGE_BYTES);
  }

  hasZeroInit(): boolean {
    return true;
  }

  #endOfData(from: number): number {
    let page = from;
    while (this.#pages.has(page)) page += 1;
    return page;
  }

  /** The first page from `from` on that exists, `limit` if none does. Looks at no more than the pages that exist. */
  #endOfHole(from: number, limit: number): number {
    let page = from;
    if (limit - from <= this.#pages.size) {
      while (page < limit && !this.#pages.has(page)) page += 1;
      return page;
    }
    page = limit;
    for (const present of this.#pages.keys()) if (present > from && present < page) page = present;
    return page;
  }

  #clear(offset: number, bytes: number, free: boolean): void {
    if (bytes / MEMORY_PAGE_BYTES > this.#pages.size) {
      // Cost follows the pages that exist and not the size of the request.
      for (const page of [...this.#pages.keys()]) this.#clearPage(page, { offset, bytes, free });
      return;
    }
    for (const { page } of parts(offset, bytes)) this.#clearPage(page, { offset, bytes, free });
  }

  #clearPage(page: number, range: { offset: number; bytes: number; free: boolean }): void {
    const base = page * MEMORY_PAGE_BYTES;
    const start = Math.max(range.offset - base, 0);
    const end = Math.min(range.offset + range.bytes - base, MEMORY_PAGE_BYTES);
    if (start >= end) return;
    // A page at the end of the disk counts as whole: what lies beyond the end is zero.
    const whole = start === 0 && (end === MEMORY_PAGE_BYTES || base + end >= this.#length);
    if (whole && range.free) this.#pages.delete(page);
    else this.#pages.get(page)?.fill(0, start, end);
  }

  #reserve(op: string, offset: number, bytes: number): void {
    this.#checkEnd(op, offset, bytes);
    let missing = 0;
    for (const { page } of parts(offset, bytes)) if (!this.#pages.has(page)) missing += 1;
    if (missing === 0 || (this.#pages.size + missing) * MEMORY_PAGE_BYTES <= this.#maxBytes) return;
    throw this.#error({ code: "ENOSPC", op, offset, bytes });
  }

  #checkEnd(op: string, offset: number, bytes: number): void {
    if (offset + bytes > limits.maxImageBytes) throw this.#error({ code: "EFBIG", op, offset, bytes });
  }

  #error(details: BlockErrorDetails): BlockError {
    return new BlockError({ node: this.#node.name, ...details });
  }
}

/** A disk of fixed length in the caller's own buffer, which both may use at the same time. */
class BufferDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #buffer: Uint8Array;

  constructor(node: NodeView, buffer: Uint8Array) {
    this.#node = node;
    this.#buffer = buffer;
  }

  length(): number {
    return this.#buffer.byteLength;
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    buffer.set(this.#part("pread", offset, buffer.byteLength));
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    this.#part("pwrite", offset, buffer.byteLength).set(buffer);
  }

  async pwriteZeroes(offset: number, bytes: number): Promise<void> {
    this.#part("pwriteZeroes", offset, bytes).fill(0);
  }

  pdiscard(offset: number, bytes: number): Promise<void> {
    return this.pwriteZeroes(offset, bytes);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const map = { node: this.#node, offset };
    return Promise.resolve({ bytes, data: true, zero: false, allocated: true, map });
  }

  allocatedBytes(): Promise<number> {
    return Promise.resolve(this.#buffer.byteLength);
  }

  #part(op: string, offset: number, bytes: number): Uint8Array {
    if (offset + bytes <= this.#buffer.byteLength) return this.#buffer.subarray(offset, offset + bytes);
    throw new BlockError({ code: "ENOSPC", op, node: this.#node.name, offset, bytes });
  }
}

/**
 * Options: `size` (bytes, default 0; it grows), `max-bytes` (of pages; ENOSPC beyond), or `buffer` (a Uint8Array that
 * is the disk; its length is fixed).
 */
export const memory: DriverType = {
  name: "memory",
  kind: "protocol",
  async open({ node }, spec) {
    const size = sizeOption(spec, "size");
    const maxBytes = sizeOption(spec, "max-bytes");
    const buffer = spec["buffer"];
    if (buffer === undefined) {
      return new MemoryDriver({ node, size: size ?? 0, maxBytes: maxBytes ?? Number.POSITIVE_INFINITY });
    }
    if (!(buffer instanceof Uint8Array)) throw optionError("Parameter 'buffer' expects a Uint8Array");
    if (size !== undefined || maxBytes !== undefined) {
      throw optionError("Parameter 'buffer' cannot be used together with 'size' or 'max-bytes'");
    }
    return new BufferDriver(node, buffer);
  },
};
