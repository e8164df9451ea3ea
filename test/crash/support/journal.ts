// A protocol driver that keeps a journal of writes and flushes, and builds the disks that a power cut could leave behind:
// every flushed write whole, of the others any set of 512-byte sectors.
import type { Answer } from "../../../src/base/answer.ts";
import type { BlockDriver, DriverType } from "../../../src/block/model/contract.ts";

const SECTOR = 512;

interface Entry {
  kind: "write" | "flush";
  offset: number;
  data: Uint8Array;
  issued: number;
  /** Infinity while under way. */
  completed: number;
}

/** The record of one disk. */
export class Journal {
  content: Uint8Array;
  length: number;
  readonly entries: Entry[] = [];
  /** Counts issues and completions: the instants at which the power can fail. */
  now = 0;
  readonly #base: Uint8Array;
  readonly random: (limit: number) => number;

  constructor(base: Uint8Array, random: (limit: number) => number) {
    this.#base = base.slice();
    this.content = base.slice();
    this.length = base.byteLength;
    this.random = random;
  }

  begin(kind: Entry["kind"], offset: number, data: Uint8Array): Entry {
    const entry = { kind, offset, data: data.slice(), issued: this.now++, completed: Infinity };
    this.entries.push(entry);
    return entry;
  }

  end(entry: Entry): void {
    entry.completed = this.now++;
  }

  /** The last instant of some flush, when most is at stake. */
  beforeFlush(): number {
    const flushes = this.entries.filter(({ kind, completed }) => kind === "flush" && completed < Infinity);
    return flushes[this.random(flushes.length)]!.completed - 1;
  }

  /** Lets other requests overtake, some of the time. */
  async delay(): Promise<void> {
    for (let turns = this.random(4); turns > 0; turns--)
      await new Promise((resolve) => setImmediate(resolve));
  }

  /** What lies behind the end reads as zeroes. */
  read(offset: number, buffer: Uint8Array): void {
    buffer.fill(0);
    buffer.set(this.content.subarray(offset, Math.min(offset + buffer.byteLength, this.length)));
  }

  apply(offset: number, data: Uint8Array): void {
    this.content = grown(this.content, offset + data.byteLength);
    this.content.set(data, offset);
    this.length = Math.max(this.length, offset + data.byteLength);
  }

  /** A disk as the power cut at instant `at` could leave it. `keep` is how many of 100 unflushed sectors survive. */
  crash(at: number, keep: number): Uint8Array {
    let barrier = -1;
    for (const entry of this.entries) {
      if (entry.kind === "flush" && entry.completed <= at) barrier = Math.max(barrier, entry.issued);
    }
    const disk = new Uint8Array(
      this.entries.reduce((end, { offset, data }) => Math.max(end, offset + data.length), this.#base.length),
    );
    disk.set(this.#base);
    let length = this.#base.length;
    for (const entry of this.entries) {
      if (entry.kind !== "write" || entry.issued > at) continue;
      const durable = entry.completed < barrier;
      const end = entry.offset + entry.data.byteLength;
      for (let from = entry.offset; from < end;) {
        const to = Math.min(end, from - (from % SECTOR) + SECTOR);
        if (durable || this.random(100) < keep) {
          length = Math.max(length, to);
          disk.set(entry.data.subarray(from - entry.offset, to - entry.offset), from);
        }
        from = to;
      }
    }
    return disk.subarray(0, length);
  }
}

function grown(bytes: Uint8Array, length: number): Uint8Array {
  if (length <= bytes.byteLength) return bytes;
  const next = new Uint8Array(length * 2);
  next.set(bytes);
  return next;
}

/** Writes at once, as a file in its caller's turn; now and then it can't, or only a part of it. */
function writeInTurn(journal: Journal, offset: number, buffer: Uint8Array): Answer<void> {
  const luck = journal.random(50);
  const bytes = luck === 1 ? journal.random(buffer.byteLength / SECTOR) * SECTOR : buffer.byteLength;
  if (luck > 0) {
    const entry = journal.begin("write", offset, buffer.subarray(0, bytes));
    journal.apply(offset, entry.data);
    journal.end(entry);
  }
  return luck > 1 ? undefined : write(journal, offset, buffer);
}

async function write(journal: Journal, offset: number, buffer: Uint8Array): Promise<void> {
  const entry = journal.begin("write", offset, buffer);
  await journal.delay();
  journal.apply(offset, entry.data);
  journal.end(entry);
}

/** A driver named `journal` over one journal; `quick`: it can do things at once too. */
export function journalType(journal: Journal, quick = false): DriverType {
  const driver: BlockDriver = {
    length: () => journal.length,
    pread(offset, buffer) {
      journal.read(offset, buffer);
      return quick && journal.random(8) > 0 ? undefined : Promise.resolve();
    },
    pwrite: (offset, buffer) => (quick ? writeInTurn : write)(journal, offset, buffer),
    async flush() {
      const entry = journal.begin("flush", 0, new Uint8Array(0));
      await journal.delay();
      journal.end(entry);
    },
  };
  return { name: "journal", kind: "protocol", open: () => Promise.resolve(driver) };
}
