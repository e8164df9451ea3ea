// HostFiles in memory that record every write, truncate and flush of several files in one order, and build the disks that
// a power cut could leave: of each file every change before its last flush, of the later ones any set of 512-byte sectors.
import type { Answer } from "../../../src/base/answer.ts";
import { BlockError } from "../../../src/base/errors.ts";
import type { FilePart, HostFile, HostFiles } from "../../../src/base/host.ts";
import type { FileZeroes } from "../../../src/base/ranges.ts";

const SECTOR = 512;

interface Entry {
  path: string;
  kind: "write" | "zero" | "truncate" | "flush";
  offset: number;
  bytes: number;
  data: Uint8Array;
  issued: number;
  /** Infinity while under way. */
  completed: number;
}

/** A file's content and length, growing by doubling. */
class Content {
  #bytes: Uint8Array;
  length: number;

  constructor(bytes: Uint8Array) {
    // Not slice(): a Buffer would share its memory.
    this.#bytes = new Uint8Array(bytes);
    this.length = bytes.byteLength;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  apply(entry: Entry, from = entry.offset, to = entry.offset + entry.bytes): void {
    if (entry.kind === "truncate") return this.#resize(entry.bytes);
    this.#resize(Math.max(this.length, to));
    const part = this.#bytes.subarray(from, to);
    if (entry.kind === "zero") part.fill(0);
    else part.set(entry.data.subarray(from - entry.offset, to - entry.offset));
  }

  #resize(length: number): void {
    if (length > this.#bytes.byteLength) {
      const more = new Uint8Array(length * 2);
      more.set(this.bytes);
      this.#bytes = more;
    }
    if (length < this.length) this.#bytes.fill(0, length, this.length);
    this.length = length;
  }
}

/** What is copied from file to file at once. */
const PIECE = 8192;

/** Whether a piece of a copy has zeroes that are not to be passed over. */
function stops(data: Uint8Array, { granule, unit }: FileZeroes): boolean {
  if (granule === 0 || unit === Infinity) return false;
  const step = Math.min(Math.max(unit, granule), data.byteLength);
  for (let from = 0; from < data.byteLength; from += step)
    if (data.subarray(from, from + step).every((byte) => byte === 0)) return true;
  return false;
}

/** The files of one story. */
interface DataWrite {
  offset: number;
  buffer: Uint8Array;
}

export class RecordedFiles implements HostFiles {
  /** Counts issues and completions: the instants at which the power can fail. */
  now = 0;
  readonly #entries: Entry[] = [];
  readonly #start = new Map<string, Uint8Array>();
  readonly #files = new Map<string, Content>();
  readonly #paths = new Map<HostFile, string>();
  /** Reads and writes can be done at once too, as of files that are used in their caller's turn. */
  readonly inTurn: boolean;
  /** Ranges are copied from file to file. */
  readonly copyLeastBytes: number;
  /** Bytes that were. */
  copied = 0;
  /** Writes that were done at once. */
  atOnce = 0;
  readonly #random: (limit: number) => number;

  constructor(
    files: ReadonlyMap<string, Uint8Array>,
    random: (limit: number) => number,
    { inTurn = false, copies = false }: { inTurn?: boolean; copies?: boolean } = {},
  ) {
    this.#random = random;
    this.inTurn = inTurn;
    this.copyLeastBytes = copies ? 0 : Infinity;
    for (const [path, bytes] of files) {
      this.#start.set(path, bytes);
      this.#files.set(path, new Content(bytes));
    }
  }

  open(path: string): Promise<HostFile> {
    const content = this.#files.get(path);
    if (!content) return Promise.reject(new BlockError({ code: "ENOENT", op: "open" }));
    const change = (kind: Entry["kind"], offset: number, bytes: number, data?: Uint8Array) =>
      this.#change({ path, kind, offset, bytes, data: data ? new Uint8Array(data) : new Uint8Array(0) });
    const file: HostFile = {
      alignment: 1,
      copyFrom: (parts, zeroes) =>
        parts.some(({ source }) => source.streams)
          ? undefined
          : Promise.all(parts.map((part) => this.#copy(path, part, zeroes))),
      read: (buffer, offset) => {
        const part = content.bytes.subarray(offset, offset + buffer.byteLength);
        buffer.set(part);
        return this.inTurn && this.#random(20) > 0 ? part.byteLength : Promise.resolve(part.byteLength);
      },
      write: (buffer, offset) =>
        this.inTurn
          ? this.#writeInTurn(path, content, { offset, buffer })
          : change("write", offset, buffer.byteLength, buffer),
      flush: () => change("flush", 0, 0),
      size: () => Promise.resolve(content.length),
      allocatedBytes: () => Promise.resolve(undefined),
      truncate: (size) => change("truncate", 0, size),
      punchHole: (offset, bytes) =>
        change("zero", offset, Math.max(0, Math.min(bytes, content.length - offset))),
      extentAt: () => Promise.resolve(undefined),
      lock: () => Promise.resolve(),
      setWritable: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
    this.#paths.set(file, path);
    return Promise.resolve(file);
  }

  /**
   * Copies as two threads do: pieces in any order, of which some may fail, and zeroes left out as the rule says; what is behind
   * the first that was not done may be written or not.
   */
  async #copy(path: string, { offset, source }: FilePart, zeroes: FileZeroes): Promise<number> {
    const from = this.#files.get(this.#paths.get(source.file)!)!.bytes;
    const fails = this.#random(4) === 0 ? this.#random(source.bytes / PIECE + 1) : Infinity;
    let done = source.bytes;
    const pieces: Promise<void>[] = [];
    for (let at = 0; at < source.bytes; at += PIECE) {
      const bytes = Math.min(PIECE, source.bytes - at);
      const data = from.subarray(source.offset + at, source.offset + at + bytes);
      const isLast = at + bytes === source.bytes;
      if (at / PIECE === fails || stops(data, zeroes)) done = Math.min(done, at);
      else if (isLast || zeroes.granule === 0 || data.some((byte) => byte !== 0))
        pieces.push(this.#change({ path, kind: "write", offset: offset + at, bytes, data: data.slice() }));
      if (done < source.bytes && this.#random(2) === 0) break;
    }
    await Promise.all(pieces);
    this.copied += done;
    return done;
  }

  /** Writes at once; now and then it can't, or only a part of it. */
  #writeInTurn(path: string, content: Content, { offset, buffer }: DataWrite): Answer<void> {
    const luck = this.#random(50);
    if (luck > 0) {
      const bytes = luck === 1 ? this.#random(buffer.byteLength) : buffer.byteLength;
      const issued = this.now++;
      const data = buffer.slice(0, bytes);
      const entry: Entry = { path, kind: "write", offset, bytes, data, issued, completed: this.now++ };
      this.#entries.push(entry);
      content.apply(entry);
    }
    if (luck <= 1)
      return this.#change({ path, kind: "write", offset, bytes: buffer.byteLength, data: buffer.slice() });
    this.atOnce++;
    return undefined;
  }

  create(): Promise<never> {
    return Promise.reject(new BlockError({ code: "EACCES", op: "create" }));
  }

  info(path: string): ReturnType<HostFiles["info"]> {
    const content = this.#files.get(path);
    if (!content) return Promise.reject(new BlockError({ code: "ENOENT", op: "stat" }));
    return Promise.resolve({ kind: "file", size: content.length, identity: path });
  }

  realPath(path: string): Promise<string> {
    return Promise.resolve(path);
  }

  remove(): Promise<void> {
    return Promise.reject(new BlockError({ code: "EACCES", op: "remove" }));
  }

  resolve(base: string, path: string): string {
    return path.startsWith("/") ? path : base.slice(0, base.lastIndexOf("/") + 1) + path;
  }

  /** The files as a cut at instant `at` could leave them; `keep` of 100 unflushed sectors survive. */
  crash(at: number, keep: number): Map<string, Uint8Array> {
    const left = new Map<string, Uint8Array>();
    for (const [path, bytes] of this.#start)
      left.set(path, this.#crashed(path, new Content(bytes), { at, keep }));
    return left;
  }

  #crashed(path: string, content: Content, { at, keep }: { at: number; keep: number }): Uint8Array {
    const entries = this.#entries.filter((entry) => entry.path === path && entry.issued <= at);
    let barrier = -1;
    for (const { kind, completed, issued } of entries)
      if (kind === "flush" && completed <= at) barrier = Math.max(barrier, issued);
    for (const entry of entries) {
      if (entry.kind === "flush") continue;
      const durable = entry.completed < barrier;
      if (durable) content.apply(entry);
      else if (entry.kind === "truncate") {
        if (this.#random(100) < keep) content.apply(entry);
      } else this.#tear(content, entry, keep);
    }
    return content.bytes;
  }

  #tear(content: Content, entry: Entry, keep: number): void {
    const end = entry.offset + entry.bytes;
    for (let from = entry.offset; from < end;) {
      const to = Math.min(end, from - (from % SECTOR) + SECTOR);
      if (this.#random(100) < keep) content.apply(entry, from, to);
      from = to;
    }
  }

  async #change(change: Omit<Entry, "issued" | "completed">): Promise<void> {
    const entry: Entry = { ...change, issued: this.now++, completed: Infinity };
    this.#entries.push(entry);
    // Other requests may overtake, some of the time.
    for (let turns = this.#random(3); turns > 0; turns--)
      await new Promise((resolve) => setImmediate(resolve));
    if (entry.kind !== "flush") this.#files.get(entry.path)!.apply(entry);
    entry.completed = this.now++;
  }
}
