/**
 * A disk in chunks: the driver's hooks. What is written is gathered by chunks; a chunk that is full goes to the store at once, as
 * a part of the write that filled it, so that its errors are that write's; others go when there are too many, and at a flush, which
 * ends with the new head.
 *
 * Invariants: nothing that was written is seen by others before the head that names it; a chunk that could not be stored stays here
 * and is tried again by the next write or flush; at most MOST_OPEN_BYTES of chunks are open, beside those that requests are just
 * filling.
 */
import { assert } from "../../../../base/assert.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../../../base/errors.ts";
import { limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import { alignUp } from "../../../../base/ranges.ts";
import { Mutex, settleAll } from "../../../../base/signals.ts";
import type {
  BlockDriver,
  BlockStatus,
  FormatSpecific,
  NodeView,
  TruncateOptions,
} from "../../../../block/model/contract.ts";
import type { Store } from "./client.ts";
import type { IndexMap } from "./index-map.ts";

/** Unit in which it is told how full a chunk is, bytes. */
const UNIT = 4096;
/** Bytes of chunks that are being filled. */
const MOST_OPEN_BYTES = 64 * 2 ** 20;

interface Open {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Which of its units were written since it was opened or stored, and how many. */
  readonly written: Uint8Array;
  units: number;
  /** Counts the writes. */
  version: number;
}

/** What an open disk consists of. */
interface ChunkDriverInit {
  readonly node: NodeView;
  readonly index: IndexMap;
  readonly store: Store;
  readonly url: string;
  readonly cacheBytes: number;
}

/** An open disk. */
export class ChunkDriver implements BlockDriver {
  readonly #init: ChunkDriverInit;
  readonly #index: IndexMap;
  readonly #chunkBytes: number;
  /** Chunks that differ from what is stored, the one used last at the end. */
  readonly #open = new Map<number, Open>();
  /** Stored chunks that were read, the one used last at the end. */
  readonly #cache = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
  readonly #locks = new Map<number, Mutex>();
  readonly #flushing = new Mutex();

  constructor(init: ChunkDriverInit) {
    this.#init = init;
    this.#index = init.index;
    this.#chunkBytes = init.index.chunkBytes;
  }

  length(): number {
    return alignUp(this.#index.size, SECTOR_SIZE);
  }

  hasZeroInit(): boolean {
    return true;
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    await this.#each("pread", { offset, bytes: buffer.byteLength }, async (chunk, start, end) => {
      const at = chunk * this.#chunkBytes + start - offset;
      const into = buffer.subarray(at, at + end - start);
      const open = this.#open.get(chunk);
      const content = open?.bytes ?? (await this.#stored(chunk));
      // It may have been opened meanwhile: then by a write that overlaps none of what is read.
      into.fill(0);
      if (content) into.set(content.subarray(start, end));
    });
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    const bytes = buffer.byteLength;
    await this.#grow("pwrite", offset + bytes);
    await this.#each("pwrite", { offset, bytes }, (chunk, start, end) => {
      const at = chunk * this.#chunkBytes + start - offset;
      return this.#change(chunk, { start, end }, (into) => into.set(buffer.subarray(at, at + end - start)));
    });
    await this.#makeRoom("pwrite");
  }

  async pwriteZeroes(offset: number, bytes: number): Promise<void> {
    await this.#grow("pwriteZeroes", offset + bytes);
    await this.#each("pwriteZeroes", { offset, bytes }, (chunk, start, end) =>
      start === 0 && end >= this.#bytesOf(chunk)
        ? this.#locked(chunk, () => this.#clear(chunk))
        : this.#change(chunk, { start, end }, (into) => into.fill(0)),
    );
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    const within = Math.min(bytes, this.#index.size - offset);
    await this.#each("pdiscard", { offset, bytes: Math.max(0, within) }, async (chunk, start, end) => {
      if (start === 0 && end >= this.#bytesOf(chunk)) await this.#locked(chunk, () => this.#clear(chunk));
    });
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const { node } = this.#init;
    const first = Math.floor(offset / this.#chunkBytes);
    const isData = async (chunk: number): Promise<boolean> =>
      this.#open.has(chunk) || (await this.#index.get(chunk)) !== null;
    const data = await isData(first);
    let end = (first + 1) * this.#chunkBytes;
    for (let chunk = first + 1; end < offset + bytes && (await isData(chunk)) === data; chunk++)
      end += this.#chunkBytes;
    const run = Math.min(bytes, end - offset);
    return { bytes: run, data, zero: !data, allocated: true, map: { node, offset } };
  }

  async truncate(size: number, { preallocation }: TruncateOptions): Promise<void> {
    if (preallocation !== "off")
      throw blockError("ENOTSUP", "truncate", `Unsupported preallocation mode '${preallocation}'`);
    if (size > this.#index.size) return this.#grow("truncate", size);
    await this.#failing("truncate", { offset: size, bytes: 0 }, async () => {
      const last = Math.floor(size / this.#chunkBytes);
      for (const chunk of this.#open.keys()) if (chunk > last) this.#open.delete(chunk);
      const within = size - last * this.#chunkBytes;
      const isCut = this.#bytesOf(last) > within;
      if (isCut && within === 0) await this.#locked(last, () => this.#clear(last));
      if (isCut && within > 0)
        await this.#change(last, { start: within, end: this.#bytesOf(last) }, (rest) => rest.fill(0));
      await this.#index.resize(size);
    });
  }

  async flush(): Promise<void> {
    await this.#failing("flush", { offset: 0, bytes: 0 }, () =>
      this.#flushing.run(async () => {
        this.#index.check();
        await this.#storeAll([...this.#open.keys()]);
        await this.#index.publish();
      }),
    );
  }

  formatSpecific(): FormatSpecific {
    return { type: "http", data: { etag: this.#index.etag, changed: false } };
  }

  setReadOnly(): Promise<void> {
    return Promise.resolve();
  }

  async close(): Promise<void> {
    try {
      if (this.#open.size > 0 || this.#index.isChanged) await this.flush();
    } finally {
      this.#init.store.close();
    }
  }

  /** Bytes of a chunk: the last one may be short. */
  #bytesOf(chunk: number): number {
    return Math.max(0, Math.min(this.#chunkBytes, this.#index.size - chunk * this.#chunkBytes));
  }

  /** Grows the disk. A last chunk that was stored short is opened, to be stored anew. */
  async #grow(op: string, size: number): Promise<void> {
    const before = this.#index.size;
    if (size <= before) return;
    if (size > limits.maxImageBytes) throw blockError("EFBIG", op);
    await this.#failing(op, { offset: before, bytes: size - before }, async () => {
      const last = Math.floor(before / this.#chunkBytes);
      if (before % this.#chunkBytes !== 0)
        await this.#locked(last, async () => {
          if ((await this.#index.get(last)) !== null) await this.#opened(last);
        });
      if (size > this.#index.size) await this.#index.resize(size);
    });
  }

  /** Calls for each chunk of a range, all at once; the range lies within the disk. */
  async #each(
    op: string,
    { offset, bytes }: { offset: number; bytes: number },
    body: (chunk: number, start: number, end: number) => Promise<void>,
  ): Promise<void> {
    const first = Math.floor(offset / this.#chunkBytes);
    const last = Math.ceil((offset + bytes) / this.#chunkBytes);
    const part = (chunk: number): Promise<void> => {
      const from = chunk * this.#chunkBytes;
      return body(chunk, Math.max(0, offset - from), Math.min(this.#chunkBytes, offset + bytes - from));
    };
    await this.#failing(op, { offset, bytes }, async () => {
      if (last - first === 1) return part(first);
      await settleAll(Array.from({ length: last - first }, (_none, i) => part(first + i)));
    });
  }

  async #failing(
    op: string,
    { offset, bytes }: { offset: number; bytes: number },
    body: () => Promise<void>,
  ): Promise<void> {
    try {
      await body();
    } catch (cause) {
      const place = bytes > 0 ? { offset, bytes } : {};
      const details = { code: errnoOf(cause), op, message: messageOf(cause), cause, ...place };
      throw new BlockError({ ...details, node: this.#init.node.name });
    }
  }

  async #locked(chunk: number, body: () => Promise<void>): Promise<void> {
    const lock = this.#locks.get(chunk) ?? new Mutex();
    this.#locks.set(chunk, lock);
    try {
      await lock.run(body);
    } finally {
      if (!lock.locked) this.#locks.delete(chunk);
    }
  }

  /** Changes bytes of a chunk, and stores it if it is full. */
  #change(
    chunk: number,
    { start, end }: { start: number; end: number },
    edit: (bytes: Uint8Array) => void,
  ): Promise<void> {
    return this.#locked(chunk, async () => {
      this.#index.check();
      const isWhole = start === 0 && end >= this.#bytesOf(chunk);
      const open = isWhole ? this.#fresh(chunk) : await this.#opened(chunk);
      edit(open.bytes.subarray(start, end));
      open.version += 1;
      for (let unit = Math.ceil(start / UNIT); (unit + 1) * UNIT <= end; unit++) {
        open.units += 1 - open.written[unit]!;
        open.written[unit] = 1;
      }
      assert(open.units <= open.written.length, "a unit is counted once");
      if (open.units === open.written.length) await this.#put(chunk, open);
    });
  }

  #fresh(chunk: number): Open {
    const open = this.#open.get(chunk) ?? {
      bytes: new Uint8Array(this.#chunkBytes),
      written: new Uint8Array(this.#chunkBytes / UNIT),
      ...{ units: 0, version: 0 },
    };
    this.#touch(chunk, open);
    return open;
  }

  #touch(chunk: number, open: Open): void {
    assert(open.bytes.byteLength === this.#chunkBytes, "a chunk has its room");
    this.#open.delete(chunk);
    this.#open.set(chunk, open);
  }

  /** The chunk with what is stored of it. */
  async #opened(chunk: number): Promise<Open> {
    const there = this.#open.get(chunk);
    if (!there) {
      const stored = await this.#stored(chunk);
      const open = this.#fresh(chunk);
      if (stored) open.bytes.set(stored);
      return open;
    }
    this.#touch(chunk, there);
    return there;
  }

  async #clear(chunk: number): Promise<void> {
    this.#index.check();
    this.#open.delete(chunk);
    await this.#index.set(chunk, null);
  }

  /** Stores a chunk as it is now; one that was written meanwhile stays open. Under its lock. */
  async #put(chunk: number, open: Open): Promise<void> {
    const content = open.bytes.slice(0, this.#bytesOf(chunk));
    const { version } = open;
    // Whatever comes of it: who writes parts of a chunk again that could not be stored does not have it sent for each of them.
    open.written.fill(0);
    open.units = 0;
    await (isZero(content) ? this.#index.set(chunk, null) : this.#index.store(chunk, content));
    if (open.version === version && this.#open.get(chunk) === open) this.#open.delete(chunk);
  }

  async #storeAll(chunks: readonly number[]): Promise<void> {
    const work = [...chunks];
    const worker = async (): Promise<void> => {
      for (let chunk = work.shift(); chunk !== undefined; chunk = work.shift()) await this.#storeOne(chunk);
    };
    await settleAll(Array.from({ length: 4 }, worker));
  }

  #storeOne(chunk: number): Promise<void> {
    return this.#locked(chunk, async () => {
      const open = this.#open.get(chunk);
      if (open) await this.#put(chunk, open);
    });
  }

  /** Stores the chunks that were not used for the longest time, while there are too many. */
  async #makeRoom(op: string): Promise<void> {
    const most = Math.max(4, Math.floor(MOST_OPEN_BYTES / this.#chunkBytes));
    const count = this.#open.size - most;
    if (count <= 0) return;
    const oldest = [...this.#open.keys()].slice(0, count);
    await this.#failing(op, { offset: 0, bytes: 0 }, () => this.#storeAll(oldest));
  }

  /** What is stored of a chunk; undefined: zeroes. */
  async #stored(chunk: number): Promise<Uint8Array | undefined> {
    for (;;) {
      const name = await this.#index.get(chunk);
      if (name === null) return undefined;
      try {
        return await this.#read(name);
      } catch (error) {
        // A flush of our own may have removed it, for something newer.
        if ((await this.#index.get(chunk)) === name) throw error;
      }
    }
  }

  #read(name: string): Promise<Uint8Array> {
    const cached = this.#cache.get(name);
    const content = cached ?? this.#index.read(name, this.#chunkBytes);
    this.#cache.delete(name);
    this.#cache.set(name, content);
    if (!cached) content.catch(() => this.#cache.delete(name));
    const most = Math.max(2, Math.floor(this.#init.cacheBytes / this.#chunkBytes));
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= most) break;
      this.#cache.delete(oldest);
    }
    return content;
  }
}

function isZero(bytes: Uint8Array<ArrayBuffer>): boolean {
  const words = new Uint32Array(bytes.buffer, 0, Math.floor(bytes.byteLength / 4));
  for (const word of words) if (word !== 0) return false;
  return bytes.subarray(words.byteLength).every((byte) => byte === 0);
}
