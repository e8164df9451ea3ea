/**
 * indexeddb: a disk in a browser's database, for pages, and for browsers without a private file system. Blocks of 64 KiB
 * are values with their number as key; a block that is not there reads as zeroes. Platform: Host.databases.
 *
 * Invariants: every change is one transaction, so that after the end of a tab each request happened whole or not at all;
 * flush() makes them durable, and once it has failed it fails until recover(). Changes run one after the other; reads do not
 * wait, and put a block into the cache only if nothing has changed meanwhile. A block that was written and is not there
 * (the site's data were cleared) is EIO, never zeroes. The database is much slower than opfs for small requests, hence the cache.
 */
import { BlockError, ImageError, blockError, errnoOf, messageOf } from "../../base/errors.ts";
import type { BlockDatabase, Host, HostDatabases } from "../../base/host.ts";
import { KiB, SECTOR_SIZE, limits } from "../../base/limits.ts";
import { alignUp } from "../../base/ranges.ts";
import { Mutex } from "../../base/signals.ts";
import type {
  BlockDriver,
  BlockStatus,
  DriverType,
  NodeSpec,
  OpenContext,
  TruncateOptions,
} from "../../block/model/contract.ts";
import type { NodeView } from "../../block/model/contract.ts";
import { optionError, sizeOption, stringOption } from "../../block/model/options.ts";

const BLOCK = 64 * KiB;
const CACHED_BLOCKS = 128;
/** The key of the value that holds the disk's length: a double. */
const META_KEY = -1;
/** Blocks of one read of the database. */
const READ_BLOCKS = 32;

type Changes = Map<number, Uint8Array | null>;

function metaValue(size: number): Uint8Array {
  return new Uint8Array(Float64Array.of(size).buffer);
}

function sizeOf(meta: Uint8Array | undefined): number {
  const size = meta?.byteLength === 8 ? new Float64Array(meta.slice().buffer)[0]! : -1;
  if (Number.isSafeInteger(size) && size >= 0 && size <= limits.maxImageBytes) return size;
  throw new ImageError({ structure: "database", field: "length", message: "The database holds no disk" });
}

class IndexedDbDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #database: BlockDatabase;
  readonly #held: Set<number>;
  readonly #changes = new Mutex();
  /** In order of use, the latest last. */
  readonly #cache = new Map<number, Uint8Array>();
  /** Blocks that were changed since the last flush that succeeded. */
  readonly #unflushed = new Set<number>();
  /** The flush that failed. */
  #lost: BlockError | undefined;
  /** Grows when a change begins and when it ends. */
  #generation = 0;
  #size: number;

  constructor(init: { node: NodeView; database: BlockDatabase; size: number; held: Set<number> }) {
    this.#node = init.node;
    this.#database = init.database;
    this.#size = init.size;
    this.#held = init.held;
  }

  /** In whole sectors, as QEMU has it; what the last one lacks reads as zeroes. */
  length(): number {
    return alignUp(this.#size, SECTOR_SIZE);
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    const end = Math.ceil((offset + buffer.byteLength) / BLOCK);
    for (let first = Math.floor(offset / BLOCK); first < end; first += READ_BLOCKS) {
      const last = Math.min(end, first + READ_BLOCKS);
      const blocks = await this.#blocks(first, last);
      for (let block = first; block < last; block++) copyBlock(blocks.get(block), block, { offset, buffer });
    }
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    checkEnd("pwrite", offset + buffer.byteLength);
    await this.#change(async (changes) => {
      await this.#modify(changes, { offset, bytes: buffer.byteLength }, (block, content, start, end) =>
        content.set(buffer.subarray(block * BLOCK + start - offset, block * BLOCK + end - offset), start),
      );
      return offset + buffer.byteLength;
    });
  }

  async pwriteZeroes(offset: number, bytes: number): Promise<void> {
    checkEnd("pwriteZeroes", offset + bytes);
    await this.#change(async (changes) => {
      await this.#zero(changes, offset, bytes);
      return offset + bytes;
    });
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    await this.#change(async (changes) => {
      await this.#zero(changes, offset, Math.min(bytes, this.#size - offset));
      return 0;
    });
  }

  async truncate(size: number, { preallocation }: TruncateOptions): Promise<void> {
    if (preallocation !== "off")
      throw blockError("ENOTSUP", "truncate", `Unsupported preallocation mode: ${preallocation}`);
    checkEnd("truncate", size);
    await this.#change(async (changes) => {
      await this.#zero(changes, size, this.#size - size);
      changes.set(META_KEY, metaValue(size));
      return 0;
    });
    this.#size = size;
  }

  flush(): Promise<void> {
    return this.#changes.run(async () => {
      if (this.#lost) throw new BlockError({ code: this.#lost.code, op: "flush", cause: this.#lost });
      try {
        await this.#database.change(new Map([[META_KEY, metaValue(this.#size)]]), { durable: true });
      } catch (error) {
        throw (this.#lost = new BlockError({ code: errnoOf(error), op: "flush", cause: error }));
      }
      this.#unflushed.clear();
    });
  }

  /** Writes what was changed since the last flush that succeeded again, and makes it durable. */
  recover(): Promise<boolean> {
    return this.#changes.run(async () => {
      if (!this.#lost) return false;
      const blocks = [...this.#unflushed];
      for (let at = 0; at <= blocks.length; at += READ_BLOCKS) {
        const changes: Changes = new Map([[META_KEY, metaValue(this.#size)]]);
        for (const block of blocks.slice(at, at + READ_BLOCKS))
          changes.set(block, (await this.#blocks(block, block + 1)).get(block) ?? null);
        await this.#database.change(changes, { durable: true });
      }
      this.#lost = undefined;
      this.#unflushed.clear();
      return true;
    });
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const first = Math.floor(offset / BLOCK);
    const end = Math.ceil((offset + bytes) / BLOCK);
    const held = this.#held.has(first);
    const stop = held ? this.#endOfRun(first, end) : this.#nextHeld(first, end);
    const reach = Math.min(stop * BLOCK - offset, bytes);
    return { bytes: reach, data: held, zero: !held, allocated: true, map: { node: this.#node, offset } };
  }

  async allocatedBytes(): Promise<number> {
    return this.#held.size * BLOCK;
  }

  hasZeroInit(): boolean {
    return true;
  }

  async close(): Promise<void> {
    try {
      if (!this.#node.readOnly) await this.flush();
    } finally {
      this.#database.close();
    }
  }

  #endOfRun(first: number, end: number): number {
    let block = first;
    while (block < end && this.#held.has(block)) block += 1;
    return block;
  }

  /** Looks at no more than the blocks that there are. */
  #nextHeld(first: number, end: number): number {
    let next = end;
    if (end - first < this.#held.size) {
      for (next = first; next < end && !this.#held.has(next); next++);
      return next;
    }
    for (const block of this.#held) if (block >= first && block < next) next = block;
    return next;
  }

  /** The blocks there are, out of the cache or the database. */
  async #blocks(first: number, end: number): Promise<Map<number, Uint8Array>> {
    const found = new Map<number, Uint8Array>();
    const missing: number[] = [];
    for (let block = first; block < end; block++) {
      const cached = this.#cache.get(block);
      if (cached) {
        this.#keep(block, cached);
        found.set(block, cached);
      } else if (this.#held.has(block)) missing.push(block);
    }
    if (missing.length === 0) return found;
    const generation = this.#generation;
    for (const [block, content] of await this.#database.read(missing[0]!, missing.at(-1)! + 1)) {
      if (found.has(block)) continue;
      found.set(block, content);
      if (generation === this.#generation && !this.#changes.locked) this.#keep(block, content);
    }
    // What a change meanwhile has removed is not held any more.
    const cleared = missing.find((block) => !found.has(block) && this.#held.has(block));
    if (cleared !== undefined && generation === this.#generation) throw clearedError(cleared);
    return found;
  }

  #keep(block: number, content: Uint8Array): void {
    this.#cache.delete(block);
    this.#cache.set(block, content);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= CACHED_BLOCKS) break;
      this.#cache.delete(oldest);
    }
  }

  /** One transaction: `body` fills in the changes and tells the least length that the disk has afterwards. */
  #change(body: (changes: Changes) => Promise<number>): Promise<void> {
    return this.#changes.run(async () => {
      this.#generation += 1;
      const changes: Changes = new Map();
      const size = Math.max(await body(changes), this.#size);
      if (size > this.#size) changes.set(META_KEY, metaValue(size));
      if (changes.size > 0) await this.#database.change(changes, { durable: false });
      this.#size = size;
      for (const [block, content] of changes) {
        if (block === META_KEY) continue;
        this.#unflushed.add(block);
        this.#cache.delete(block);
        if (content) {
          this.#held.add(block);
          this.#keep(block, content);
        } else this.#held.delete(block);
      }
      this.#generation += 1;
    });
  }

  /** Adds changed copies of the blocks in a range; `edit` gets a block's content and the part of it that is meant. */
  async #modify(
    changes: Changes,
    { offset, bytes }: { offset: number; bytes: number },
    edit: (block: number, content: Uint8Array, start: number, end: number) => void,
  ): Promise<void> {
    const last = Math.ceil((offset + bytes) / BLOCK);
    for (let block = Math.floor(offset / BLOCK); block < last; block++) {
      const start = Math.max(offset - block * BLOCK, 0);
      const end = Math.min(offset + bytes - block * BLOCK, BLOCK);
      const whole = end - start === BLOCK;
      const before = whole ? undefined : (await this.#blocks(block, block + 1)).get(block);
      const content = before?.slice() ?? new Uint8Array(BLOCK);
      edit(block, content, start, end);
      changes.set(block, content);
    }
  }

  async #zero(changes: Changes, offset: number, bytes: number): Promise<void> {
    if (bytes <= 0) return;
    const first = Math.floor(offset / BLOCK);
    const last = Math.ceil((offset + bytes) / BLOCK);
    for (const block of [...this.#held].filter((held) => held >= first && held < last)) {
      const start = Math.max(offset - block * BLOCK, 0);
      const end = Math.min(offset + bytes - block * BLOCK, BLOCK);
      if (start === 0 && (end === BLOCK || block * BLOCK + end >= this.#size)) changes.set(block, null);
      else {
        const range = { offset: block * BLOCK + start, bytes: end - start };
        await this.#modify(changes, range, (_block, content) => content.fill(0, start, end));
      }
    }
  }
}

function clearedError(block: number): BlockError {
  const message = "what was written is not there any more: the browser has cleared the site's data";
  return new BlockError({ code: "EIO", op: "pread", offset: block * BLOCK, bytes: BLOCK, message });
}

/** Copies what a request wants of a block into its buffer; a block that is not there is zeroes. */
function copyBlock(
  content: Uint8Array | undefined,
  block: number,
  { offset, buffer }: { offset: number; buffer: Uint8Array },
): void {
  const start = Math.max(offset, block * BLOCK);
  const end = Math.min(offset + buffer.byteLength, (block + 1) * BLOCK);
  if (content) buffer.set(content.subarray(start - block * BLOCK, end - block * BLOCK), start - offset);
  else buffer.fill(0, start - offset, end - offset);
}

function checkEnd(op: string, end: number): void {
  if (end > limits.maxImageBytes) throw blockError("EFBIG", op);
}

/** What is needed of a context. */
interface HostPart {
  host: Pick<Host, "databases">;
}
type OpenPart = HostPart & Pick<OpenContext, "node">;

function databasesOf(host: Pick<Host, "databases">): HostDatabases {
  if (host.databases) return host.databases;
  throw blockError("ENOTSUP", "open", "The 'indexeddb' driver needs a browser with IndexedDB");
}

function requiredFilename(spec: NodeSpec): string {
  const filename = stringOption(spec, "filename");
  if (filename === undefined || filename === "") throw optionError("Parameter 'filename' is missing");
  return filename;
}

/** `Could not <verb> 'name': why`, with the errno of the cause. */
function couldNot(verb: "open" | "create" | "remove", filename: string, error: unknown): BlockError {
  const message = `Could not ${verb} '${filename}': ${messageOf(error)}`;
  return new BlockError({ code: errnoOf(error), op: verb, message, cause: error });
}

async function open({ node, host }: OpenPart, spec: NodeSpec): Promise<BlockDriver> {
  const filename = requiredFilename(spec);
  let database: BlockDatabase | undefined;
  try {
    database = await databasesOf(host).open(filename);
    const size = sizeOf((await database.read(META_KEY, 0)).get(META_KEY));
    const held = new Set((await database.keys()).filter((key) => key >= 0));
    return new IndexedDbDriver({ node, database, size, held });
  } catch (error) {
    database?.close();
    throw couldNot("open", filename, error);
  }
}

async function create({ host }: HostPart, options: Record<string, unknown>): Promise<void> {
  const spec: NodeSpec = { driver: "indexeddb", ...options };
  const filename = requiredFilename(spec);
  const size = sizeOption(spec, "size");
  if (size === undefined) throw optionError("Parameter 'size' is missing");
  checkEnd("create", size);
  try {
    const replace = spec["exclusive"] !== true;
    const database = await databasesOf(host).open(filename, { create: true, replace });
    try {
      await database.change(new Map([[META_KEY, metaValue(size)]]), { durable: true });
    } finally {
      database.close();
    }
  } catch (error) {
    throw couldNot("create", filename, error);
  }
}

async function remove({ host }: HostPart, options: Record<string, unknown>): Promise<void> {
  const filename = requiredFilename({ driver: "indexeddb", ...options });
  try {
    await databasesOf(host).remove(filename);
  } catch (error) {
    throw couldNot("remove", filename, error);
  }
}

/**
 * Option: `filename`, any name. Errors of open: ENOENT, EAGAIN (open elsewhere), ENOTSUP (no IndexedDB here) with `Could not
 * open '…'`; of writes: ENOSPC when the quota is used up.
 */
export const indexedDb: DriverType = { name: "indexeddb", kind: "protocol", open, create, remove };

/** The driver with databases of its own, for engines whose Host has none: who does not import it does not bundle them. */
export function indexedDbOver(databases: () => HostDatabases | undefined): DriverType {
  const host = (): HostPart["host"] => {
    const found = databases();
    return found ? { databases: found } : {};
  };
  return {
    ...indexedDb,
    open: ({ node }, spec) => open({ node, host: host() }, spec),
    create: (_context, options) => create({ host: host() }, options),
    remove: (_context, options) => remove({ host: host() }, options),
  };
}
