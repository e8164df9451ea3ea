/**
 * A log of writes that grows. Invariant: no two entries share a sector; each has its place before anything of it is written.
 */
import { blockError } from "../../../base/errors.ts";
import type { Edge } from "../../../block/model/contract.ts";
import { optionError } from "../../../block/model/options.ts";
import { blockOf, ENTRY_BYTES, EntryFlag, headOf, type LogEntry, readHead, sectorsTaken } from "./layout.ts";

/** Where a log goes on. */
export interface LogEnd {
  /** Bytes of a sector. */
  readonly sector: number;
  readonly entries: number;
  /** The next free sector. */
  readonly next: number;
}

/** What an entry's data is: bytes, or as many zeroes as it says; undefined: it has none. */
export type LogData = Uint8Array | "zeroes" | undefined;

async function read(edge: Edge, at: number, bytes: Uint8Array, message: string): Promise<void> {
  try {
    await edge.pread(at, bytes);
  } catch (cause) {
    throw Object.assign(optionError(message), { cause });
  }
}

/** Finds the end of a log that is there; beyond the end of the file all entries are empty, a file of no bytes is a new log. Throws EINVAL in QEMU's words. */
export async function findEnd(edge: Edge, anew: LogEnd): Promise<LogEnd> {
  if (edge.length === 0) return anew;
  const first = new Uint8Array(ENTRY_BYTES);
  await read(edge, 0, first, "Could not read log superblock");
  const { sector, entries } = readHead(first);
  const block = new Uint8Array(ENTRY_BYTES);
  let next = 1;
  for (let number = 0; number < entries; number++) {
    if (next * sector >= edge.length) return { sector, entries, next: next + entries - number };
    await read(edge, next * sector, block, `Failed to read log entry ${number}`);
    next += sectorsTaken(block, number);
  }
  return { sector, entries, next };
}

/** The log. */
export class LogOfWrites {
  readonly #edge: Edge;
  readonly #interval: number;
  readonly sector: number;
  #entries: number;
  #next: number;
  /** One head at a time: an older one never covers a newer. */
  #head: Promise<void> = Promise.resolve();

  /** After every `interval` entries, and each flush, the head says how many there are. */
  constructor(edge: Edge, { sector, entries, next }: LogEnd, interval: number) {
    this.#edge = edge;
    this.#interval = interval;
    this.sector = sector;
    this.#entries = entries;
    this.#next = next;
  }

  /** Writes an entry and its data. Errors: EFBIG where the log is as long as files can be, those of the log's node. */
  async append(entry: LogEntry, data: LogData): Promise<void> {
    const { sector } = this;
    const at = this.#next * sector;
    const bytes = data === undefined ? 0 : entry.sectors * sector;
    if (!Number.isSafeInteger(at + sector + bytes)) throw blockError("EFBIG", "pwrite");
    this.#next += 1 + bytes / sector;
    this.#entries += 1;
    const isDue = (entry.flags & EntryFlag.flush) !== 0 || this.#entries % this.#interval === 0;
    const writes = [
      this.#edge.pwrite(at, blockOf(entry, sector)),
      data === "zeroes" ? this.#edge.pwriteZeroes(at + sector, bytes) : undefined,
      data instanceof Uint8Array ? this.#edge.pwrite(at + sector, data) : undefined,
    ];
    await allOf(writes);
    if (isDue) await this.#writeHead();
  }

  /** Makes durable what was appended. */
  async flush(): Promise<void> {
    await this.#edge.flush();
  }

  #writeHead(): Promise<void> {
    const write = async (): Promise<void> => this.#edge.pwrite(0, headOf(this.#entries, this.sector));
    this.#head = this.#head.catch(() => undefined).then(write);
    return this.#head;
  }
}

/** Waits for all; then throws what the first of them has failed with. */
export async function allOf(works: readonly unknown[]): Promise<void> {
  for (const one of await Promise.allSettled(works)) if (one.status === "rejected") throw one.reason;
}
