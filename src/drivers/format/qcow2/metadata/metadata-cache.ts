/**
 * A bounded write-back cache of pieces of metadata tables, keyed by their offset in the file.
 *
 * Invariants: a dirty piece, or one with users, is never dropped by `trim`; pieces change only under the image's metadata lock, and `trim`
 * runs only while nobody holds it (or by its holder between two steps), so a piece got from `peek` or `load` stays valid
 * up to the next await without the lock, and until unlocking with it. The order of write-back between caches is
 * write-back.ts's business.
 */
import { type Answer, isPromise } from "../../../../base/answer.ts";
import { assert } from "../../../../base/assert.ts";
import { settleAll } from "../../../../base/signals.ts";

/** A piece of a table in memory. */
export interface CachedTable {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** The same, to look for what is not 0. */
  readonly words: Uint32Array;
  /** The bytes [dirtyFrom, dirtyTo) differ from the file; empty when clean. */
  dirtyFrom: number;
  dirtyTo: number;
  lastUse: number;
  /** The words [emptyFrom, emptyTo) are known to be 0, and the one behind them not to be; empty: nothing is known. */
  emptyFrom: number;
  emptyTo: number;
  /** Those who will change it once what they write has been written; it stays meanwhile. */
  users: number;
}

/** How many words of a table are 0 from `word` on. Found once for all that asks within the run while the table stays. */
export function emptyWords(table: CachedTable, word: number): number {
  if (word >= table.emptyFrom && word < table.emptyTo) return table.emptyTo - word;
  const { words } = table;
  let at = word;
  while (at < words.length && words[at] === 0) at += 1;
  table.emptyFrom = word;
  table.emptyTo = at;
  return at - word;
}

/** How a cache reaches the file. */
export interface CacheInit {
  /** Bytes of one piece. */
  readonly tableBytes: number;
  /** Pieces that are kept; more only while they are dirty or in use. */
  readonly maxTables: number;
  /** Fills `bytes` from the file. */
  read(offset: number, bytes: Uint8Array): Answer<void>;
  /** Writes changed bytes to the file (after the overlap check). */
  write(offset: number, bytes: Uint8Array): Answer<void>;
  /** Told of a piece that was just read. */
  loaded?(table: CachedTable): void;
}

const PARALLEL_WRITES = 8;
/** Changed bytes are written in whole sectors, so that a torn write never splits one. */
const WRITE_UNIT = 512;

/** One cache: of the L1 table, the L2 tables, the refcount table or the refcount blocks. */
export class MetadataCache {
  readonly #init: CacheInit;
  readonly #tables = new Map<number, CachedTable>();
  #mostTables = 0;
  readonly #loading = new Map<number, Promise<CachedTable>>();
  readonly #dirty = new Set<CachedTable>();
  /** Pieces that are kept; clean ones above it are dropped. */
  maxTables: number;
  #clock = 0;

  constructor(init: CacheInit) {
    this.#init = init;
    this.maxTables = init.maxTables;
  }

  get tableBytes(): number {
    return this.#init.tableBytes;
  }

  /** Pieces in memory. */
  get size(): number {
    return this.#tables.size;
  }

  /** The most bytes that it ever held. */
  get peakBytes(): number {
    return this.#mostTables * this.#init.tableBytes;
  }

  /** Pieces that wait for write-back. */
  get dirtyTables(): number {
    return this.#dirty.size;
  }

  /** Whether so many pieces are dirty that a write-back is due before more are changed. */
  get crowded(): boolean {
    return this.#dirty.size * 4 > this.maxTables * 3;
  }

  /** The piece at `offset`, if it is in memory. */
  peek(offset: number): CachedTable | undefined {
    const table = this.#tables.get(offset);
    if (table) table.lastUse = ++this.#clock;
    return table;
  }

  /** The piece at `offset`, read if need be; concurrent loads share one read. */
  load(offset: number): Answer<CachedTable> {
    return this.peek(offset) ?? this.#loading.get(offset) ?? this.#read(offset);
  }

  /** A new piece of zeroes at `offset`, dirty as a whole; it replaces what was remembered of a former table there. */
  create(offset: number): CachedTable {
    assert(offset > 0 && offset % this.#init.tableBytes === 0, "a table begins at its unit");
    this.drop(offset, this.#init.tableBytes);
    const table = this.#insert(offset, new Uint8Array(this.#init.tableBytes));
    this.markDirty(table, 0, this.#init.tableBytes);
    return table;
  }

  /** Notes that the bytes [from, to) changed. */
  markDirty(table: CachedTable, from: number, to: number): void {
    assert(this.#tables.get(table.offset) === table, "a dropped table was changed");
    assert(from >= 0 && from < to && to <= this.#init.tableBytes, "a change lies outside of its table");
    table.emptyTo = 0;
    if (table.dirtyTo === 0) {
      table.dirtyFrom = from;
      table.dirtyTo = to;
    } else {
      table.dirtyFrom = Math.min(table.dirtyFrom, from);
      table.dirtyTo = Math.max(table.dirtyTo, to);
    }
    this.#dirty.add(table);
  }

  /** Forgets the pieces in [offset, offset + bytes), changed or not. */
  drop(offset: number, bytes: number): void {
    for (let at = offset; at < offset + bytes; at += this.#init.tableBytes) {
      const table = this.#tables.get(at);
      if (table) this.#dirty.delete(table);
      this.#tables.delete(at);
      this.#loading.delete(at);
    }
  }

  /** Forgets everything, changed or not. */
  clear(): void {
    this.#tables.clear();
    this.#loading.clear();
    this.#dirty.clear();
  }

  /** Writes every dirty piece. What fails stays dirty; the first error is thrown after the others have settled. */
  async writeDirty(): Promise<void> {
    const queue = [...this.#dirty].sort((a, b) => a.offset - b.offset);
    for (let at = 0; at < queue.length; at += PARALLEL_WRITES) {
      const batch = queue.slice(at, at + PARALLEL_WRITES).map((table) => this.#write(table));
      await settleAll(batch);
    }
  }

  /** Drops the least recently used clean pieces above the bound, save for those in use. */
  trim(): void {
    if (this.#tables.size <= this.maxTables) return;
    const clean = [...this.#tables.values()].filter((table) => table.dirtyTo === 0 && table.users === 0);
    clean.sort((a, b) => a.lastUse - b.lastUse);
    const goal = Math.floor(this.maxTables * 0.875);
    assert(clean.length + this.#dirty.size <= this.#tables.size, "a table is dirty or clean");
    for (const table of clean) {
      if (this.#tables.size <= goal) break;
      this.#tables.delete(table.offset);
    }
  }

  #read(offset: number): Answer<CachedTable> {
    const bytes = new Uint8Array(this.#init.tableBytes);
    const reading = this.#init.read(offset, bytes);
    return isPromise(reading) ? this.#readLater(offset, bytes, reading) : this.#entered(offset, bytes);
  }

  async #readLater(offset: number, bytes: Uint8Array, reading: Promise<void>): Promise<CachedTable> {
    const loading: Promise<CachedTable> = reading.then(() => {
      // Dropped or created anew meanwhile: what was read may be stale.
      if (this.#loading.get(offset) !== loading) return this.load(offset);
      this.#loading.delete(offset);
      return this.#entered(offset, bytes);
    });
    this.#loading.set(offset, loading);
    try {
      return await loading;
    } finally {
      if (this.#loading.get(offset) === loading) this.#loading.delete(offset);
    }
  }

  /** A piece that was just read. */
  #entered(offset: number, bytes: Uint8Array): CachedTable {
    const table = this.#insert(offset, bytes);
    this.#init.loaded?.(table);
    return table;
  }

  #insert(offset: number, bytes: Uint8Array): CachedTable {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    assert(!this.#tables.has(offset), "one table at a place");
    const table: CachedTable = {
      offset,
      bytes,
      view,
      words: new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4),
      dirtyFrom: 0,
      dirtyTo: 0,
      lastUse: ++this.#clock,
      emptyFrom: 0,
      emptyTo: 0,
      users: 0,
    };
    this.#tables.set(offset, table);
    this.#mostTables = Math.max(this.#mostTables, this.#tables.size);
    return table;
  }

  async #write(table: CachedTable): Promise<void> {
    assert(table.dirtyFrom < table.dirtyTo, "what is written back has changed");
    const from = table.dirtyFrom - (table.dirtyFrom % WRITE_UNIT);
    const to = Math.min(Math.ceil(table.dirtyTo / WRITE_UNIT) * WRITE_UNIT, table.bytes.byteLength);
    await this.#init.write(table.offset + from, table.bytes.subarray(from, to));
    table.dirtyFrom = 0;
    table.dirtyTo = 0;
    this.#dirty.delete(table);
  }
}
