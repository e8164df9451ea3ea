/**
 * Copying a whole disk into another: block status first (holes and zeroes are never read), zero detection on the way, a few
 * pieces at once through the one copy engine. Source: behaviour of qemu-img convert 7.2.
 *
 * Invariants: memory is bounded by the arena's slots of the pieces under way; pieces start and end at the target's
 * clusters, so that no cluster is written twice or copied on write.
 */
import { type Answer, andThen, ending, isPromise } from "../base/answer.ts";
import { closing } from "../base/lease.ts";
import { BlockError } from "../base/errors.ts";
import { MiB, SECTOR_SIZE } from "../base/limits.ts";
import { alignDown, type ByteRange } from "../base/ranges.ts";
import { sleep } from "../base/sleep.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import { skipFilters, storesCompressed } from "../block/model/chain.ts";
import type { BlockNode } from "../block/model/node.ts";
import { Perm } from "../block/model/permissions.ts";
import {
  CopyError,
  RangeCopier,
  type RangeCopierOptions,
  type UnreadRange,
} from "../block/copy/range-copy.ts";
import { type ChainOptions, type ChainStatus, blockStatusAbove } from "../block/io/status.ts";
import { FileCopier, FileList } from "../block/copy/file-copier.ts";
import { WriteOrder } from "../block/copy/write-order.ts";
import { RateLimit } from "../job/core/pace.ts";
import { loadCheckpoints } from "./checkpoint/index.ts";
import type { CheckpointRef } from "./checkpoint/file.ts";
import { levelOf } from "./compression-level.ts";
import { attachSources } from "./concat.ts";
import { type Node, releaseIdle } from "./node.ts";
import { checkNodes, followed, optionsOf, rangeOptions } from "./options.ts";
import { type Pieces, Pipeline, piecesFor, piecesOfFiles } from "../block/copy/window.ts";

const DEFAULT_SPARSE = 4096;
/** How far the block status is asked for ahead, bytes; where nothing lies, ever farther. */
const STATUS_REACH = 1024 * MiB;
const FARTHEST_REACH = 2 ** 20 * MiB;

/** Options of convert(). */
export interface ConvertOptions {
  /** The target reads as zeroes (a new image without a backing file): zeroes are not written. Default false. */
  targetIsZero?: boolean;
  /** The target's backing file holds what the source's does: only the source's own layer is copied. Default false. */
  targetHasBacking?: boolean;
  /** Stores compressed clusters. The target's format must be able to (ENOTSUP). */
  compress?: boolean;
  /** With `compress`: 1 (fast) … 9 for zlib, 22 for zstd; default: QEMU's. EINVAL beyond that, ENOTSUP in browsers. */
  compressionLevel?: number;
  /** Runs of zeroes of so many bytes are not stored as data; 0: everything is written out. Default 4096. */
  sparseBytes?: number;
  /** Pieces under way at once, >= 1; default as fits the host. */
  parallel?: number;
  /**
   * Pieces that are read at once are written in their order, so that the target's clusters follow each other in its file; default
   * false. Compressed ones come as they are ready.
   */
  inOrder?: boolean;
  /**
   * The host copies what lies in files within itself, where it can (copy_file_range(2) in Node, with koffi): a file system that
   * knows how shares the blocks. Zeroes in it are then copied as data. Without effect beside `compress`, `salvage`,
   * `speedBytesPerSecond`, `checkpoint` and `parallel: 1`. Default false.
   */
  offload?: boolean;
  /** Data copied per second, bytes; 0 (default): no limit. */
  speedBytesPerSecond?: number;
  /**
   * Copies what can be read of a damaged source: each sector that can't be reads as zeroes in the target, and is told
   * here. Without it the first such sector ends the copying. Where the block status can't be had, that is told twice: before
   * the copying begins, and when it comes there.
   */
  salvage?: (unread: UnreadRange) => void;
  /**
   * Where a checkpoint is kept, by which another process goes on where this one was killed: call convert() again with the same disks and
   * options. It goes when the disk is copied. EBUSY, EINVAL, ESTALE as for jobs; see JobOptions.
   */
  checkpoint?: CheckpointRef | undefined;
  /** Where the range begins that is copied, bytes: a multiple of the target's clusters, for compressed ones. Default 0. */
  offset?: number;
  /** Bytes of that range; default: up to the end of the disk. */
  length?: number;
  /** Told how far it is: bytes done and in all (of the disk, also where a range of it is copied). */
  onProgress?: (done: number, total: number) => void;
  /** Bytes that are copied at once at most (of small ones a cluster), and so between two calls of `onProgress`. Default: as fits the host. */
  stepBytes?: number;
  /** Ends the copying between two pieces; the target is then half written. */
  signal?: AbortSignal;
}

const checkOptions = optionsOf<ConvertOptions>({
  ...followed,
  ...rangeOptions,
  targetIsZero: "bool",
  targetHasBacking: "bool",
  compress: "bool",
  compressionLevel: "int",
  sparseBytes: "int",
  parallel: "int",
  inOrder: "bool",
  offload: "bool",
  stepBytes: "int",
  speedBytesPerSecond: "Finite",
  salvage: "Function",
  checkpoint: "Storage",
});

export { CopyError, type UnreadRange };

/** A copy that failed since the source's block status could not be told. */
export class CopyStatusError extends CopyError {}

type Kind = "data" | "zero" | "backing";

/** Data that is copied by one task: a range, or a list of those that files hold. */
interface Piece {
  readonly offset: number;
  bytes: number;
  /** Where the last of it ends. */
  end: number;
  readonly list: FileList | undefined;
}

interface Learned {
  readonly kind: Kind;
  readonly bytes: number;
  /** What tells of all of it; absent: nothing does. */
  readonly status?: ChainStatus;
}

/**
 * Copies the disk `source`, or several end to end (each padded to 512 bytes), into the open, writable `target`, which must be
 * as long at least (ENOSPC). Not durable before the target is flushed or closed. Throws CopyError, which says which side
 * failed and where; EINVAL for disks of two engines, no disk, or several with `targetHasBacking`.
 */
export async function convert(
  source: Node | readonly Node[],
  target: Node,
  options: ConvertOptions = {},
): Promise<void> {
  checkOptions(options);
  options.signal?.throwIfAborted();
  const refuse = (code: "EINVAL" | "ENOSPC" | "ENOTSUP", message: string): never => {
    throw new BlockError({ code, op: "convert", message });
  };
  const sources: readonly Node[] = Array.isArray(source) ? source : [source as Node];
  for (const one of sources) checkNodes({ source: one, target });
  if (sources.length === 0) refuse("EINVAL", "there is no disk to copy");
  if (sources.some(({ engine }) => engine !== target.engine))
    refuse("EINVAL", "the disks are open in different engines");
  if (sources.length > 1 && options.targetHasBacking)
    refuse("EINVAL", "a target of several disks can't have a backing file that holds theirs");
  const sectors = (node: Node): number => Math.ceil(node.length / SECTOR_SIZE);
  if (sectors(target) < sources.reduce((sum, node) => sum + sectors(node), 0))
    refuse("ENOSPC", "output file is smaller than input file");
  if (options.compress && !storesCompressed(target.blockNode))
    refuse("ENOTSUP", "Compression not supported for this file format");
  const { offset = 0, length = 0 } = options;
  if (!isBytes(offset) || !isBytes(length) || offset % SECTOR_SIZE !== 0)
    refuse("EINVAL", "the range does not begin at a sector, or is none");
  const setLevel = await levelOf(target, options);
  const { engine } = target;
  await releaseIdle(engine);
  const from = new BlockBackend(engine.graph);
  const to = new BlockBackend(engine.graph);
  const copy = async (): Promise<void> => {
    await attachSources(from, engine.graph, sources);
    await to.attach(target.blockNode, {
      // What is padded to whole blocks of a disk may be longer than the target is; for a checkpoint it is looked at, too.
      perm: Perm.write | Perm.resize | (options.checkpoint === undefined ? 0 : Perm.consistentRead),
      shared: Perm.consistentRead | Perm.writeUnchanged,
    });
    setLevel(options.compressionLevel);
    await (options.checkpoint === undefined
      ? new Conversion({ from, to, options }).run()
      : kept(options.checkpoint, { from, to, options }));
  };
  await closing(
    copy,
    () => Promise.resolve(setLevel(undefined)),
    () => to.close(),
    () => from.close(),
  );
}

function isBytes(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

interface Ends {
  from: BlockBackend;
  to: BlockBackend;
  options: ConvertOptions;
}

/** Copies with a checkpoint: what an earlier process has copied is left out. */
async function kept(checkpoint: CheckpointRef, { from, to, options }: Ends): Promise<void> {
  const { beginCheckpoint, ConvertKeeper, wipeOutstanding } = await loadCheckpoints();
  const { targetHasBacking = false, compress = false, offset = 0, length = 0 } = options;
  const [source, target] = [from.root!.node, to.root!.node];
  const engine = { graph: from.graph };
  const keeper = await beginCheckpoint({
    engine,
    checkpoint,
    kind: "convert",
    work: { targetHasBacking, compress, offset, length },
    roots: { reads: [source], writes: target },
    shows: !targetHasBacking && source.length === target.length && offset + length === 0 ? source : undefined,
    disks: [source, target],
    length: target.length,
  });
  const left = keeper.resume?.nextDirty(0);
  const begin = Math.max(offset, left === undefined ? 0 : left < 0 ? target.length : left);
  const keep = new ConvertKeeper(engine, { keeper, written: to.root!, length: target.length, from: begin });
  let hasFailed = true;
  try {
    if (left !== undefined && options.targetIsZero) await wipeOutstanding(to, begin, target.length);
    await new Conversion({ from, to, options, begin, keep }).run();
    hasFailed = false;
  } finally {
    await keep.ended(hasFailed);
  }
}

/** What is told of how far it is, where a checkpoint is kept. */
interface Keep {
  isDue(position: number): boolean;
  reached(position: number): Promise<void>;
}

/** So often it is looked whether there is to be a checkpoint, bytes: a multiple of all clusters. */
const KEEP_STEP = 2 * MiB;

class Conversion {
  readonly #source: BlockNode;
  /** The layers that are looked at: down to that which the target has below it too. */
  readonly #layers: ChainOptions;
  /** Bytes of the target's backing file, which ends the zeroes that must be written. */
  readonly #backingBytes: number;
  readonly #copier: RangeCopier;
  /** Has the host copy; undefined: it can't. */
  readonly #files: FileCopier | undefined;
  readonly #order: WriteOrder | undefined;
  readonly #options: ConvertOptions;
  readonly #length: number;
  /** Where the range that is copied begins, and where it ends. */
  readonly #start: number;
  readonly #end: number;
  /** Pieces are multiples of this. */
  readonly #unit: number;
  readonly #pieces: Pieces;
  readonly #pipeline: Pipeline<number>;
  readonly #rate: RateLimit;
  readonly #wait: (delayMs: number) => Promise<void>;
  readonly #keep: Keep | undefined;
  #piece: Piece | undefined;
  #reach = STATUS_REACH;
  /** The progress that was told last, bytes. */
  #told = 0;

  constructor({ from, to, options, begin = 0, keep }: Ends & { begin?: number; keep?: Keep }) {
    const { graph } = from;
    this.#keep = keep;
    const source = from.root!;
    const target = to.root!;
    const { sparseBytes = DEFAULT_SPARSE, compress = false } = options;
    const { limits, driver } = target.node;
    const cluster = driver.getInfo?.()?.clusterSize || 65536;
    this.#source = source.node;
    this.#options = options;
    this.#length = Math.min(
      Math.ceil(source.node.length / SECTOR_SIZE) * SECTOR_SIZE,
      Math.max(target.node.length, source.node.length),
    );
    const { offset = 0 } = options;
    this.#end = Math.min(this.#length, offset + (options.length ?? this.#length));
    this.#start = Math.min(Math.max(offset, begin), this.#length);
    const granule = Math.max(
      2 ** Math.floor(Math.log2(Math.max(sparseBytes, SECTOR_SIZE))),
      limits.pwriteZeroesAlignment,
    );
    this.#unit = compress
      ? cluster
      : Math.max(limits.pwriteZeroesAlignment, limits.requestAlignment, DEFAULT_SPARSE);
    this.#files = this.#fileCopier({ from, to, options }, sparseBytes > 0 ? granule : 0);
    const pieces = piecesFor(graph.host);
    // Of what is under way nothing is known when the process is killed.
    const kept = keep ? Math.max(MiB, alignDown(this.#length / 64, KEEP_STEP)) : Infinity;
    const { stepBytes } = options;
    const step =
      stepBytes === undefined ? Infinity : Math.max(this.#unit, stepBytes - (stepBytes % this.#unit));
    const most = Math.min(kept, step);
    const usual = this.#files ? piecesOfFiles : pieces;
    this.#pieces = { ...usual, bytes: Math.min(usual.bytes, most) };
    this.#layers = { base: options.targetHasBacking ? skipFilters(source.node).backing?.node : undefined };
    this.#backingBytes = skipFilters(target.node).backing?.node.length ?? 0;
    this.#order = options.inOrder && !compress ? new WriteOrder() : undefined;
    const how: RangeCopierOptions = {
      source,
      target,
      arena: graph.arena,
      kernels: graph.kernels,
      detectZeroes: sparseBytes > 0,
      unmap: true,
      compress,
      targetIsZero: options.targetIsZero ?? false,
      clusterSize: compress ? cluster : granule,
      maxTransfer: Math.min(this.#pieces.bytes, pieces.bytes),
      ...(this.#order ? { order: this.#order } : {}),
      ...(options.salvage ? { salvage: options.salvage } : {}),
    };
    this.#copier = new RangeCopier(how);
    this.#pipeline = new Pipeline(Math.max(1, options.parallel ?? this.#pieces.atOnce), (done) =>
      this.#tell(done),
    );
    const { clock } = graph.host;
    this.#rate = new RateLimit(clock);
    this.#rate.setSpeed(options.speedBytesPerSecond ?? 0);
    this.#wait = (delayMs) => sleep(clock, delayMs, options.signal);
  }

  /** For large disks in files, of which nothing but the content is wanted. */
  #fileCopier({ from, to, options }: Ends, granule: number): FileCopier | undefined {
    const { compress, salvage, speedBytesPerSecond, parallel, targetIsZero, offload = false } = options;
    const isPlain = !compress && !salvage && !speedBytesPerSecond && parallel !== 1 && !this.#keep;
    const { copyLeastBytes = Infinity } = from.graph.host.files;
    if (!isPlain || (!offload && this.#end - this.#start < copyLeastBytes)) return undefined;
    const target = to.root!;
    const unit = Math.max(this.#unit, target.node.driver.getInfo?.()?.clusterSize ?? 0);
    const zeroes = { granule, unit: targetIsZero ? Infinity : 0, offload };
    return FileCopier.for({ source: from.root!, target, zeroes, unit });
  }

  async run(): Promise<void> {
    this.#options.onProgress?.(this.#start, this.#length);
    try {
      // As qemu-img, which asks for all of it first while it counts what there is.
      if (this.#options.salvage) await this.#lookAt(this.#start, this.#end);
      for (let at = this.#start; at < this.#end;) {
        this.#options.signal?.throwIfAborted();
        // A disk of many small pieces comes this way often, and nearly always gets its answers at once.
        const learned = this.#learn(at);
        const known = isPromise(learned) ? await learned : learned;
        const { kind, bytes } = known;
        const work = kind === "data" ? this.#data(at, known) : this.#zeroes(at, bytes, kind);
        if (isPromise(work)) await work;
        at += bytes;
        if (this.#keep?.isDue(at)) await this.#keepAt(at);
      }
      await this.#flushPiece();
      await this.#pipeline.drain();
      this.#tell(this.#end);
    } finally {
      await this.#pipeline.settle();
    }
  }

  /** A checkpoint: all before is copied first. */
  async #keepAt(position: number): Promise<void> {
    await this.#flushPiece();
    await this.#pipeline.drain();
    await this.#keep!.reached(position);
  }

  /** Pieces copied at once overtake those under way; what is told only grows. */
  #tell(done: number): void {
    if (done <= this.#told) return;
    this.#told = done;
    this.#options.onProgress?.(done, this.#length);
  }

  /** What lies at `offset`, in whole units: one that is partly something else counts as data. */
  #learn(offset: number): Answer<Learned> {
    const asked = Math.min(this.#end - offset, this.#keep ? KEEP_STEP - (offset % KEEP_STEP) : this.#reach);
    const status = this.#sourceStatus(offset, asked);
    return isPromise(status)
      ? status.then((told) => this.#inUnits(told, offset, asked))
      : this.#inUnits(status, offset, asked);
  }

  #inUnits(status: ChainStatus, offset: number, asked: number): Answer<Learned> {
    const kind = this.#kindOf(status, offset);
    this.#reach = kind === "data" ? STATUS_REACH : Math.min(2 * this.#reach, FARTHEST_REACH);
    if (status.bytes >= asked) return { kind, bytes: asked, status };
    if (status.bytes >= this.#unit) return { kind, bytes: alignDown(status.bytes, this.#unit), status };
    const unit = { kind: "data", bytes: Math.min(this.#unit, this.#end - offset) } as const;
    // What is data anyway need not be looked at, but for what can't be.
    return this.#options.salvage
      ? this.#lookAt(offset + status.bytes, offset + unit.bytes).then(() => unit)
      : unit;
  }

  /** Asks for the source's block status, for the sake of what is told where it can't be had. */
  async #lookAt(from: number, end: number): Promise<void> {
    for (let at = from; at < end;) {
      this.#options.signal?.throwIfAborted();
      const { bytes } = await this.#sourceStatus(at, Math.min(end - at, STATUS_REACH));
      at += Math.max(bytes, 1);
    }
  }

  #kindOf(status: ChainStatus, offset: number): Kind {
    const backed = this.#options.targetHasBacking ?? false;
    if (!status.zero && !status.data) return backed ? "backing" : "data";
    if (!status.zero || this.#options.sparseBytes === 0) return "data";
    return backed && offset >= this.#backingBytes ? "backing" : "zero";
  }

  #sourceStatus(offset: number, bytes: number): Answer<ChainStatus> {
    try {
      const status = blockStatusAbove(this.#source, offset, bytes, this.#layers);
      return isPromise(status) ? status.catch((error) => this.#untold(error, offset, bytes)) : status;
    } catch (error) {
      return this.#untold(error, offset, bytes);
    }
  }

  /** When salvaging, less and less is asked for, and a sector of which nothing can be told counts as data. */
  async #untold(error: unknown, offset: number, bytes: number): Promise<ChainStatus> {
    const { salvage } = this.#options;
    if (!salvage) throw new CopyStatusError("read", error, { node: this.#source.name, offset, bytes });
    if (bytes > SECTOR_SIZE)
      return this.#sourceStatus(offset, Math.max(alignDown(bytes / 2, SECTOR_SIZE), SECTOR_SIZE));
    // After what was told of the bytes before.
    await this.#pipeline.drain();
    salvage({ step: "status", offset, error });
    return { bytes, data: true, zero: false, allocated: true, depth: 1 };
  }

  /** Gathers data into pieces: adjacent, or such as files hold. */
  #data(offset: number, known: Learned, passed = 0): Answer<void> {
    this.#options.signal?.throwIfAborted();
    for (let done = passed; done < known.bytes;) {
      const at = offset + done;
      this.#piece ??= { offset: at, bytes: 0, end: at, list: this.#files && new FileList() };
      const piece = this.#piece;
      const bytes = Math.min(known.bytes - done, this.#pieces.bytes - piece.bytes);
      if (piece.list)
        this.#files!.add(piece.list, { offset: at, bytes }, { status: known.status, passed: done });
      piece.bytes += bytes;
      piece.end = at + bytes;
      done += bytes;
      const isFull = piece.bytes >= this.#pieces.bytes || piece.list?.isFull(piece.end);
      const flushing = isFull ? this.#flushPiece() : undefined;
      if (isPromise(flushing)) return flushing.then(() => this.#data(offset, known, done));
      this.#options.signal?.throwIfAborted();
    }
  }

  #flushPiece(): Answer<void> {
    const piece = this.#piece;
    this.#piece = undefined;
    if (!piece) return undefined;
    const pushed = this.#pipeline.push(() => this.#copy(piece));
    return isPromise(pushed) ? pushed.then(() => this.#paced(piece.bytes)) : this.#paced(piece.bytes);
  }

  /** Answers with where the piece ends. */
  #copy(piece: Piece): Answer<number> {
    const { list, end } = piece;
    const copying = list ? this.#files!.copy(list, (part) => this.#copyHere(part)) : this.#copyHere(piece);
    return isPromise(copying) ? copying.then(() => end) : end;
  }

  #copyHere({ offset, bytes }: ByteRange): Answer<void> {
    this.#order?.begin(offset);
    return ending(
      () => this.#copier.copyData(offset, bytes),
      () => this.#order?.end(offset),
    );
  }

  #paced(bytes: number): Answer<void> {
    const delayMs = this.#rate.delayMs(bytes);
    return delayMs > 0 ? this.#wait(delayMs) : undefined;
  }

  #zeroes(offset: number, bytes: number, kind: Kind): Answer<void> {
    const isLeft = kind === "backing" || this.#options.targetIsZero;
    // What a list holds needs not be adjacent.
    if (isLeft && this.#piece?.list?.isFull(offset + bytes) === false) return undefined;
    const flushed = this.#flushPiece();
    if (isLeft) return flushed;
    return andThen(flushed, () =>
      this.#pipeline.push(() => andThen(this.#copier.writeZeroes(offset, bytes), () => offset + bytes)),
    );
  }
}
