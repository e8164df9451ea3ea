/**
 * Simulated files: bytes and allocated pages in memory, seeded latency, injected faults, space that runs out, torn failing
 * writes, garbage in the buffers of failing reads, and power cuts that leave what was flushed.
 */
import type { Answer } from "../base/answer.ts";
import { BlockError } from "../base/errors.ts";
import type { Errno } from "../base/errno.ts";
import type {
  CreatedFile,
  FileExtent,
  FileInfo,
  FileOpenOptions,
  HostFile,
  HostFiles,
} from "../base/host.ts";
import type { Dice } from "./dice.ts";
import { Journal } from "./journal.ts";
import type { Scheduler } from "../workload/time/scheduler.ts";
import type { Trace } from "./trace.ts";

const PAGE = 4096;
const SECTOR = 512;

/** What can fail. */
export type FileVerb = "read" | "write" | "flush" | "truncate" | "punchHole" | "zeroRange";

/** Requests of `verb` to `path` fail with `errno`, `perMille` of them, from one time to another. */
export interface FaultRule {
  path: string;
  verbs: readonly FileVerb[];
  errno: Errno;
  perMille: number;
  fromMs: number;
  toMs: number;
}

/** The content of one file. */
export class FileData {
  bytes = new Uint8Array(PAGE * 16);
  #allocated = new Uint8Array(16);
  size = 0;
  pages = 0;
  /** Bytes that may be allocated. */
  limit = Number.POSITIVE_INFINITY;
  /** Kept where the power may be cut. */
  journal: Journal | undefined;

  /** Bytes of `write` that there is space for, from its start on. */
  room(offset: number, bytes: number): number {
    let free = Math.floor(this.limit / PAGE) - this.pages;
    for (let page = Math.floor(offset / PAGE); page * PAGE < offset + bytes; page++) {
      if (this.#allocated[page]) continue;
      if (free <= 0) return Math.max(0, page * PAGE - offset);
      free -= 1;
    }
    return bytes;
  }

  write(offset: number, data: Uint8Array): void {
    const end = offset + data.byteLength;
    this.#reserve(end);
    this.journal?.write(offset, data);
    this.bytes.set(data, offset);
    this.size = Math.max(this.size, end);
    for (let page = Math.floor(offset / PAGE); page * PAGE < end; page++) {
      if (!this.#allocated[page]) this.pages += 1;
      this.#allocated[page] = 1;
    }
  }

  read(offset: number, buffer: Uint8Array): number {
    const count = Math.max(0, Math.min(buffer.byteLength, this.size - offset));
    buffer.set(this.bytes.subarray(offset, offset + count));
    return count;
  }

  truncate(size: number): void {
    this.#reserve(size);
    this.journal?.resize(size);
    if (size < this.size) this.#clear(size, this.size);
    this.size = size;
  }

  punch(offset: number, bytes: number): void {
    const end = Math.min(offset + bytes, this.size);
    if (end <= offset) return;
    this.journal?.write(offset, new Uint8Array(end - offset));
    this.#clear(offset, end);
  }

  #clear(offset: number, end: number): void {
    this.bytes.fill(0, offset, end);
    const last = end === this.size ? Math.ceil(end / PAGE) : Math.floor(end / PAGE);
    for (let page = Math.ceil(offset / PAGE); page < last; page++) {
      if (this.#allocated[page]) this.pages -= 1;
      this.#allocated[page] = 0;
    }
  }

  extentAt(offset: number): FileExtent | undefined {
    if (offset >= this.size) return undefined;
    const first = Math.floor(offset / PAGE);
    const data = this.#allocated[first] === 1;
    let page = first;
    while (page * PAGE < this.size && (this.#allocated[page] === 1) === data) page++;
    return { data, bytes: Math.min(page * PAGE, this.size) - offset };
  }

  #reserve(end: number): void {
    if (end <= this.bytes.byteLength) return;
    const length = Math.max(end, this.bytes.byteLength * 2);
    const bytes = new Uint8Array(Math.ceil(length / PAGE) * PAGE);
    bytes.set(this.bytes);
    this.bytes = bytes;
    const allocated = new Uint8Array(bytes.byteLength / PAGE);
    allocated.set(this.#allocated);
    this.#allocated = allocated;
  }
}

/** How long things take. */
export interface Latency {
  /** Ordinary requests take up to this, ms. */
  usualMs: number;
  /** One request in so many takes up to 40 times as long; 0: none. */
  slowOneIn: number;
}

/** All files of one host. */
export class SimFiles implements HostFiles {
  readonly contents = new Map<string, FileData>();
  readonly scheduler: Scheduler;
  readonly dice: Dice;
  readonly trace: Trace;
  faults: FaultRule[] = [];
  latency: Latency = { usualMs: 0, slowOneIn: 0 };
  alignment = 1;
  /** One request in so many that might be done at once is not; 0: none can be. */
  notNowOneIn = 0;
  /** Requests of all files. */
  requests = 0;
  /** Requests that were done at once. */
  atOnce = 0;
  /** How often the power was cut. */
  epoch = 0;
  /** Files that are open now. */
  open_ = 0;
  /** Errors that were injected so far, by errno. */
  readonly injected = new Map<Errno, number>();
  /** Rules that driver or host broke (a buffer that changed under a write, a request on a closed file). */
  readonly misuse: string[] = [];

  constructor(init: { scheduler: Scheduler; dice: Dice; trace: Trace }) {
    this.scheduler = init.scheduler;
    this.dice = init.dice;
    this.trace = init.trace;
  }

  data(path: string): FileData {
    const data = this.contents.get(path);
    if (!data) throw new BlockError({ code: "ENOENT", op: "open" });
    return data;
  }

  async open(path: string, options: FileOpenOptions): Promise<HostFile> {
    await this.wait();
    const file = new SimFile(this, path, options.write);
    this.open_ += 1;
    return file;
  }

  async create(path: string, { size }: { size: number }): Promise<CreatedFile> {
    await this.wait();
    const made = !this.contents.has(path);
    const data = new FileData();
    data.truncate(size);
    this.contents.set(path, data);
    return { made, identity: path };
  }

  info(path: string): Promise<FileInfo> {
    const data = this.contents.get(path);
    if (!data) return Promise.reject(new BlockError({ code: "ENOENT", op: "open" }));
    return Promise.resolve({ kind: "file", size: data.size, identity: path });
  }

  realPath(path: string): Promise<string> {
    return Promise.resolve(path);
  }

  remove(path: string): Promise<void> {
    this.contents.delete(path);
    return Promise.resolve();
  }

  resolve(base: string, path: string): string {
    if (path.startsWith("/")) return path;
    return base.slice(0, base.lastIndexOf("/") + 1) + path;
  }

  /** From now on all files are as after a flush, and a power cut leaves what was flushed. */
  expectCut(): void {
    for (const data of this.contents.values()) data.journal = new Journal(data.bytes.subarray(0, data.size));
  }

  /** Cuts the power: files hold what was left; those that were open never answer again. */
  cut(): void {
    for (const [path, data] of this.contents) {
      const left = new FileData();
      const bytes = data.journal?.cut(this.dice);
      if (bytes) {
        left.truncate(bytes.byteLength);
        left.write(0, bytes);
      }
      this.contents.set(path, left);
    }
    this.faults = [];
    this.notNowOneIn = 0;
    this.open_ = 0;
    this.epoch += 1;
  }

  /** The time that one request takes. */
  wait(): Promise<void> {
    const { usualMs, slowOneIn } = this.latency;
    let delayMs = usualMs * this.dice.fraction();
    if (slowOneIn > 0 && this.dice.oneIn(slowOneIn)) delayMs *= 40;
    return this.scheduler.sleep(delayMs);
  }

  /** Whether a request can be done at once. */
  now(): boolean {
    if (this.notNowOneIn === 0 || this.dice.oneIn(this.notNowOneIn)) return false;
    this.atOnce += 1;
    return true;
  }

  /** The error that a request is to meet, if one. */
  fault(path: string, verb: FileVerb): Errno | undefined {
    const now = this.scheduler.nowMs;
    for (const rule of this.faults) {
      if (rule.path !== path || !rule.verbs.includes(verb) || now < rule.fromMs || now >= rule.toMs) continue;
      if (this.dice.below(1000) < rule.perMille) return rule.errno;
    }
    return undefined;
  }

  /** Makes the error of a request that fails. */
  failed(code: Errno, verb: string, path: string): BlockError {
    this.injected.set(code, (this.injected.get(code) ?? 0) + 1);
    this.trace.add(`fault ${code} ${verb} ${path}`);
    return new BlockError({ code, op: verb });
  }
}

class SimFile implements HostFile {
  readonly alignment: number;
  readonly #files: SimFiles;
  readonly #path: string;
  readonly #data: FileData;
  #writable: boolean;
  readonly #epoch: number;
  #closed = false;

  constructor(files: SimFiles, path: string, writable: boolean) {
    this.#files = files;
    this.#path = path;
    this.#data = files.data(path);
    this.#writable = writable;
    this.alignment = files.alignment;
    this.#epoch = files.epoch;
  }

  read(buffer: Uint8Array, offset: number): Answer<number> {
    this.#check("read", offset, buffer.byteLength);
    return this.#files.now() ? this.#readInTurn(buffer, offset) : this.#readLater(buffer, offset);
  }

  write(buffer: Uint8Array, offset: number): Answer<void> {
    this.#check("write", offset, buffer.byteLength, true);
    return this.#files.now() ? this.#writeInTurn(buffer, offset) : this.#writeLater(buffer, offset);
  }

  async #readLater(buffer: Uint8Array, offset: number): Promise<number> {
    const error = this.#files.fault(this.#path, "read");
    // What overtakes the read may or may not be in it.
    const early = this.#files.dice.oneIn(2);
    let count = early && !error ? this.#data.read(offset, buffer) : 0;
    await this.#files.wait();
    if (error) {
      buffer.fill(0xee);
      throw this.#files.failed(error, "read", this.#path);
    }
    if (!early) count = this.#data.read(offset, buffer);
    this.#note("read", offset, count);
    return count;
  }

  async #writeLater(buffer: Uint8Array, offset: number): Promise<void> {
    const error = this.#files.fault(this.#path, "write");
    const data = buffer.slice();
    const early = this.#files.dice.oneIn(2);
    const room = early && !error ? this.#apply(data, offset) : 0;
    await this.#files.wait();
    if (!sameBytes(buffer, data)) this.#misuse("buffer changed under a write", offset);
    if (error) {
      // A failing write may have been carried out in part.
      const torn = this.#files.dice.below(Math.ceil(data.byteLength / SECTOR) + 1) * SECTOR;
      if (this.#files.dice.oneIn(2)) this.#apply(data.subarray(0, torn), offset);
      throw this.#files.failed(error, "write", this.#path);
    }
    const written = early ? room : this.#apply(data, offset);
    if (written < data.byteLength) throw this.#files.failed("ENOSPC", "write", this.#path);
    this.#note("write", offset, data.byteLength);
  }

  #readInTurn(buffer: Uint8Array, offset: number): number {
    const error = this.#files.fault(this.#path, "read");
    if (error) {
      buffer.fill(0xee);
      throw this.#files.failed(error, "read", this.#path);
    }
    const count = this.#data.read(offset, buffer);
    this.#note("read at once", offset, count);
    return count;
  }

  #writeInTurn(buffer: Uint8Array, offset: number): void {
    const error = this.#files.fault(this.#path, "write");
    const sectors = Math.ceil(buffer.byteLength / SECTOR);
    const bytes = error ? this.#files.dice.below(sectors) * SECTOR : buffer.byteLength;
    const written = this.#apply(buffer.subarray(0, bytes), offset);
    this.#note("write at once", offset, written);
    if (error) throw this.#files.failed(error, "write", this.#path);
    if (written < buffer.byteLength) throw this.#files.failed("ENOSPC", "write", this.#path);
  }

  async flush(): Promise<void> {
    this.#check("flush", 0, 0);
    const error = this.#files.fault(this.#path, "flush");
    const mark = this.#data.journal?.mark();
    await this.#files.wait();
    if (error) throw this.#files.failed(error, "flush", this.#path);
    if (mark !== undefined) this.#data.journal?.flushed(mark);
    this.#note("flush", 0, 0);
  }

  size(): Promise<number> {
    return Promise.resolve(this.#data.size);
  }

  allocatedBytes(): Promise<number | undefined> {
    return Promise.resolve(this.#data.pages * PAGE);
  }

  async truncate(size: number): Promise<void> {
    this.#check("truncate", 0, 0, true);
    const error = this.#files.fault(this.#path, "truncate");
    await this.#files.wait();
    if (error) throw this.#files.failed(error, "truncate", this.#path);
    this.#data.truncate(size);
    this.#note("truncate", size, 0);
  }

  async punchHole(offset: number, bytes: number): Promise<void> {
    this.#check("punchHole", offset, bytes, true);
    const error = this.#files.fault(this.#path, "punchHole");
    await this.#files.wait();
    if (error) throw this.#files.failed(error, "punchHole", this.#path);
    this.#data.punch(offset, bytes);
    this.#note("punch", offset, bytes);
  }

  async zeroRange(offset: number, bytes: number): Promise<void> {
    this.#check("zeroRange", offset, bytes, true);
    const error = this.#files.fault(this.#path, "zeroRange");
    await this.#files.wait();
    if (error) throw this.#files.failed(error, "zeroRange", this.#path);
    if (this.#apply(new Uint8Array(bytes), offset) < bytes)
      throw this.#files.failed("ENOSPC", "zeroRange", this.#path);
    this.#note("zero", offset, bytes);
  }

  async extentAt(offset: number): Promise<FileExtent | undefined> {
    this.#check("extentAt", offset, 0);
    await this.#files.wait();
    return this.#data.extentAt(offset);
  }

  lock(): Promise<void> {
    return Promise.resolve();
  }

  setWritable(write: boolean): Promise<void> {
    this.#writable = write;
    return Promise.resolve();
  }

  async close(): Promise<void> {
    if (this.#closed) this.#misuse("closed twice", 0);
    this.#closed = true;
    await this.#files.wait();
    this.#files.open_ -= 1;
  }

  /** Writes as far as there is space. */
  #apply(data: Uint8Array, offset: number): number {
    const room = this.#data.room(offset, data.byteLength);
    if (room > 0) this.#data.write(offset, data.subarray(0, room));
    return room;
  }

  #check(verb: string, offset: number, bytes: number, writes = false): void {
    if (this.#closed) this.#misuse(`${verb} on a closed file`, offset);
    if (writes && !this.#writable) this.#misuse(`${verb} on a read-only file`, offset);
    if (offset % this.alignment !== 0 || bytes % this.alignment !== 0)
      this.#misuse(`unaligned ${verb} of ${bytes}`, offset);
  }

  #note(verb: string, offset: number, bytes: number): void {
    if (this.#epoch !== this.#files.epoch) return;
    this.#files.requests += 1;
    this.#files.trace.io(verb, this.#path, offset, bytes);
  }

  #misuse(what: string, offset: number): void {
    if (this.#epoch !== this.#files.epoch) return;
    this.#files.misuse.push(`${this.#path} at ${offset}: ${what}`);
  }
}

/** Looks at samples: a buffer that somebody else uses changes in more than one place. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.byteLength; i += 61) if (a[i] !== b[i]) return false;
  return true;
}
