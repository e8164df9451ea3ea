/**
 * Comparing two disks: block status first (what reads as zeroes in both is never read), data by the platform's fastest
 * comparison, a few pieces at once. Source: behaviour of qemu-img compare 7.2.
 */
import { type Answer, andThen, isPromise, rescue, together } from "../base/answer.ts";
import { blockError } from "../base/errors.ts";
import type { FilePart, HostFile } from "../base/host.ts";
import { SECTOR_SIZE } from "../base/limits.ts";
import { type ByteRange, alignDown } from "../base/ranges.ts";
import { BlockBackend, readerPermissions } from "../block/graph/backend.ts";
import { type ChainStatus, blockStatusAbove } from "../block/io/status.ts";
import { type Node, releaseIdle } from "./node.ts";
import { checkNodes, followed, optionsOf } from "./options.ts";
import { HostWork, isStill, isWorth, rangeInFile } from "../block/copy/still-files.ts";
import { type Pieces, Pipeline, piecesFor, piecesOfFiles } from "../block/copy/window.ts";

/** Options of compare(). */
export interface CompareOptions {
  /** Sizes and block status (data, zero, allocated) must be the same too. */
  strict?: boolean;
  /** Where it begins, bytes, a sector: what is before is taken for the same. Default 0. */
  offset?: number;
  /** Told how far it is: bytes done and in all. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** What compare() found; lengths count in sectors of 512 bytes. */
export interface CompareResult {
  identical: boolean;
  /** The first difference: of sizes (strict only), of block status (strict only), or of content. */
  mismatch?: "size" | "status" | "content";
  /** Where it is, bytes; of content: the sector that differs. */
  offset?: number;
  /** One is longer; what is beyond the shorter one's end must read as zeroes. */
  sizesDiffer: boolean;
}

/** Which of the two disks failed, and how: the `cause` is the failure. */
export class CompareError extends Error {
  override readonly name = "CompareError";
  /** 0: the first disk, 1: the second. */
  readonly disk: 0 | 1;
  /** status: what is allocated could not be found out; read: the content could not be read. */
  readonly step: "status" | "read";
  readonly offset: number;

  constructor(init: { disk: 0 | 1; step: "status" | "read"; offset: number; cause: unknown }) {
    super(`${init.step} failed at offset ${init.offset}`, { cause: init.cause });
    this.disk = init.disk;
    this.step = init.step;
    this.offset = init.offset;
  }
}

class Mismatch extends Error {
  readonly result: Omit<CompareResult, "sizesDiffer" | "identical">;

  constructor(result: Omit<CompareResult, "sizesDiffer" | "identical">) {
    super("mismatch");
    this.result = result;
  }
}

const checkOptions = optionsOf<CompareOptions>({ ...followed, strict: "bool", offset: "Length" });

/** Compares two open disks of one engine. Throws CompareError; EINVAL for disks of two engines. */
export async function compare(a: Node, b: Node, options: CompareOptions = {}): Promise<CompareResult> {
  checkOptions(options);
  checkNodes({ a, b });
  options.signal?.throwIfAborted();
  if (a.engine !== b.engine) throw blockError("EINVAL", "compare", "the disks are open in different engines");
  const { offset = 0 } = options;
  if (!(offset >= 0 && offset % SECTOR_SIZE === 0))
    throw blockError("EINVAL", "compare", "the range does not begin at a sector");
  await releaseIdle(a.engine);
  const sizesDiffer = sectors(a) !== sectors(b);
  if (sizesDiffer && options.strict) return { identical: false, mismatch: "size", sizesDiffer };
  const comparison = new Comparison(a, b, options);
  try {
    await comparison.run();
    return { identical: true, sizesDiffer };
  } catch (error) {
    if (error instanceof Mismatch) return { identical: false, ...error.result, sizesDiffer };
    throw error;
  } finally {
    await comparison.close();
  }
}

function sectors(node: Node): number {
  return Math.ceil(node.length / SECTOR_SIZE);
}

/** What came of a piece: where it ends, and the sector of its first difference. */
interface Compared {
  readonly end: number;
  readonly differs: number | undefined;
}

/** What one question for block status told. */
interface Known {
  readonly from: number;
  readonly status: ChainStatus;
}

/** Data that lies in files of the host: where on the disks, where in the first disk's file, and in the second's. */
interface InFiles extends ByteRange {
  readonly part: FilePart;
  readonly file: HostFile;
}

/** As many are handed over together at most. */
const MOST_IN_FILES = 1024;

class Comparison {
  readonly #nodes: readonly [Node, Node];
  readonly #disks: readonly [BlockBackend, BlockBackend];
  readonly #options: CompareOptions;
  readonly #total: number;
  readonly #pieces: Pieces;
  /** What the host compares beside this thread; undefined: nothing. */
  readonly #work: HostWork | undefined;
  readonly #pipeline: Pipeline<Compared>;
  /** What the host is to compare next. */
  #inFiles: InFiles[] = [];
  /** Bytes of it. */
  #gathered = 0;
  /** The last status of each disk, and where it begins. */
  readonly #known: [Known | undefined, Known | undefined] = [undefined, undefined];

  constructor(a: Node, b: Node, options: CompareOptions) {
    const { graph } = a.engine;
    this.#nodes = [a, b];
    this.#disks = [new BlockBackend(graph), new BlockBackend(graph)];
    this.#options = options;
    this.#total = Math.max(a.length, b.length);
    const { copyLeastBytes = Infinity } = graph.host.files;
    const goesBeside = this.#total >= copyLeastBytes && isStill(a.blockNode) && isStill(b.blockNode);
    this.#work = goesBeside ? new HostWork() : undefined;
    this.#pieces = goesBeside ? piecesOfFiles : piecesFor(graph.host);
    this.#pipeline = new Pipeline(this.#pieces.atOnce, ({ end, differs }) => {
      if (differs !== undefined) throw new Mismatch({ mismatch: "content", offset: differs });
      options.onProgress?.(end, this.#total);
    });
  }

  async run(): Promise<void> {
    for (const disk of [0, 1] as const)
      await this.#disks[disk].attach(this.#nodes[disk].blockNode, readerPermissions);
    const [a, b] = this.#nodes;
    const common = Math.min(sectors(a), sectors(b)) * SECTOR_SIZE;
    const { offset = 0, onProgress } = this.#options;
    onProgress?.(Math.min(offset, this.#total), this.#total);
    try {
      for (let at = offset; at < common;) {
        // A disk of many small pieces comes this way often, and nearly always gets its answers at once.
        const next = this.#piece(at, common);
        at = isPromise(next) ? await next : next;
      }
      await this.#flush();
      const longer = a.length > b.length ? 0 : 1;
      for (let at = Math.max(offset, common); at < this.#nodes[longer].length;)
        at = await this.#rest(longer, at);
      await this.#pipeline.drain();
    } finally {
      await this.#pipeline.settle();
    }
  }

  async close(): Promise<void> {
    for (const disk of this.#disks) await disk.close();
  }

  /** Compares from `at` on, or starts to; says where the next piece begins. */
  #piece(at: number, end: number): Answer<number> {
    this.#options.signal?.throwIfAborted();
    return andThen(this.#status(0, at), (first) =>
      andThen(this.#status(1, at), (second) => this.#look({ at, end }, first, second)),
    );
  }

  #look({ at, end }: { at: number; end: number }, first: ChainStatus, second: ChainStatus): Answer<number> {
    const all = Math.min(first.bytes, second.bytes, end - at);
    if (this.#options.strict && shape(first) !== shape(second)) return this.#otherShape(at);
    if ((first.zero && second.zero) || !(first.allocated || second.allocated)) {
      const nothing = { end: at + all, differs: undefined };
      // What is gathered need not be adjacent, and tells how far it is.
      const told = this.#inFiles.length > 0 ? undefined : this.#pipeline.push(() => nothing);
      return andThen(told, () => at + all);
    }
    const bytes = Math.min(all, this.#pieces.bytes);
    const isBoth = first.allocated && second.allocated;
    const inFiles = isBoth ? this.#gather(first, second, { offset: at, bytes }) : undefined;
    if (inFiles) return inFiles;
    const compared = andThen(this.#flush(), () =>
      this.#pipeline.push(() =>
        isBoth ? this.#both(at, bytes) : this.#zeroes(first.allocated ? 0 : 1, at, bytes),
      ),
    );
    return andThen(compared, () => at + bytes);
  }

  async #otherShape(offset: number): Promise<never> {
    // What differs before it counts first.
    await this.#flush();
    await this.#pipeline.drain();
    throw new Mismatch({ mismatch: "status", offset });
  }

  /** Adds what lies in files to what the host is to compare; answers with where that ends. Undefined: nothing does. */
  #gather(first: ChainStatus, second: ChainStatus, { offset, bytes }: ByteRange): Answer<number> | undefined {
    if (!this.#work) return undefined;
    const a = rangeInFile(first, { most: bytes, unit: SECTOR_SIZE });
    const b = a && rangeInFile(second, { most: a.bytes, unit: SECTOR_SIZE });
    if (!b) return undefined;
    const next: InFiles = {
      offset,
      bytes: b.bytes,
      part: { offset: b.offset, source: { ...a, bytes: b.bytes } },
      file: b.file,
    };
    const last = this.#inFiles.at(-1);
    const isFull = this.#gathered + b.bytes > this.#pieces.bytes || this.#inFiles.length >= MOST_IN_FILES;
    const flushed = last && (isFull || last.file !== b.file) ? this.#flush() : undefined;
    return andThen(flushed, () => {
      this.#inFiles.push(next);
      this.#gathered += next.bytes;
      return offset + next.bytes;
    });
  }

  /** Begins with what was gathered. */
  #flush(): Answer<void> {
    const gathered = this.#inFiles;
    if (gathered.length === 0) return undefined;
    const bytes = this.#gathered;
    this.#inFiles = [];
    this.#gathered = 0;
    return this.#pipeline.push(() => this.#elsewhere(gathered, bytes));
  }

  /** Looks at what only one disk has. */
  async #rest(disk: 0 | 1, at: number): Promise<number> {
    this.#options.signal?.throwIfAborted();
    const status = await this.#status(disk, at);
    if (!status.allocated || status.zero) return at + status.bytes;
    const bytes = Math.min(status.bytes, this.#pieces.bytes);
    await this.#pipeline.push(() => this.#zeroes(disk, at, bytes));
    return at + bytes;
  }

  /** The status of a disk up to its end in sectors; asked for when what was known is used up. */
  #status(disk: 0 | 1, offset: number): Answer<ChainStatus> {
    const known = this.#known[disk];
    if (known && offset >= known.from && offset < known.from + known.status.bytes)
      return behind(known, offset - known.from);
    return andThen(this.#ask(disk, offset), (status) => {
      this.#known[disk] = { from: offset, status };
      return status;
    });
  }

  #ask(disk: 0 | 1, offset: number): Answer<ChainStatus> {
    const node = this.#nodes[disk];
    const left = node.length - offset;
    const asked = rescue(
      () => blockStatusAbove(node.blockNode, offset, Math.max(left, 1)),
      (cause) => {
        throw new CompareError({ disk, step: "status", offset, cause });
      },
    );
    return andThen(asked, (status) => {
      const atEnd = status.bytes >= left;
      return atEnd ? { ...status, bytes: sectors(node) * SECTOR_SIZE - offset } : status;
    });
  }

  /** Has the host compare what lies in its files; what of it is not the same, or not looked at, is compared here. */
  async #elsewhere(inFiles: readonly InFiles[], bytes: number): Promise<Compared> {
    const { file } = inFiles[0]!;
    const parts = inFiles.map(({ part }) => part);
    const isEnough = isWorth(this.#nodes[0].blockNode, bytes);
    const same = isEnough ? await this.#work?.run(parts, () => file.sameAs?.(parts)) : undefined;
    let end = 0;
    for (const [index, range] of inFiles.entries()) {
      end = range.offset + range.bytes;
      const done = alignDown(same?.[index] ?? 0, SECTOR_SIZE);
      if (done === range.bytes) continue;
      const compared = await this.#both(range.offset + done, range.bytes - done);
      if (compared.differs !== undefined) return compared;
    }
    return { end, differs: undefined };
  }

  /** Compares here, a part after the other. */
  async #both(offset: number, bytes: number): Promise<Compared> {
    const most = piecesFor(this.#nodes[0].engine.graph.host).bytes;
    for (let done = 0; done < bytes; done += most) {
      const { differs } = await this.#part(offset + done, Math.min(most, bytes - done));
      if (differs !== undefined) return { end: offset + bytes, differs };
    }
    return { end: offset + bytes, differs: undefined };
  }

  async #part(offset: number, bytes: number): Promise<Compared> {
    const { arena, kernels } = this.#nodes[0].engine.graph;
    using slot = await arena.acquire(2 * bytes, this.#options.signal);
    const a = slot.bytes.subarray(0, bytes);
    const b = slot.bytes.subarray(bytes);
    const reading = together([() => this.#read(0, offset, a), () => this.#read(1, offset, b)]);
    if (reading) await reading;
    const at = kernels.firstDifference(a, b);
    return { end: offset + bytes, differs: at < 0 ? undefined : sectorOf(offset, at) };
  }

  async #zeroes(disk: 0 | 1, offset: number, bytes: number): Promise<Compared> {
    const { arena, kernels } = this.#nodes[0].engine.graph;
    using slot = await arena.acquire(bytes, this.#options.signal);
    const read = this.#read(disk, offset, slot.bytes);
    if (read) await read;
    if (kernels.isZero(slot.bytes)) return { end: offset + bytes, differs: undefined };
    return {
      end: offset + bytes,
      differs: sectorOf(
        offset,
        slot.bytes.findIndex((byte) => byte !== 0),
      ),
    };
  }

  /** Beyond the end of a disk that is no multiple of sectors there are zeroes. */
  #read(disk: 0 | 1, offset: number, buffer: Uint8Array): Answer<void> {
    return rescue(
      () => this.#disks[disk].root!.pread(offset, buffer),
      (cause) => {
        throw new CompareError({ disk, step: "read", offset, cause });
      },
    );
  }
}

/** What is known, from so many bytes behind its start on. */
function behind({ status }: Known, passed: number): ChainStatus {
  if (passed === 0) return status;
  const rest = { ...status, bytes: status.bytes - passed };
  return status.map ? { ...rest, map: { ...status.map, offset: status.map.offset + passed } } : rest;
}

function sectorOf(offset: number, at: number): number {
  const byte = offset + at;
  // Counted from the piece's start, as qemu-img does.
  return offset + Math.floor((byte - offset) / SECTOR_SIZE) * SECTOR_SIZE;
}

/** What strict comparison looks at. */
function shape({ data, zero, allocated, map, compressed, eof }: ChainStatus): string {
  return [data, zero, allocated, map !== undefined, compressed ?? false, eof ?? false].join();
}
