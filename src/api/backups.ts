/**
 * Disks into a repository of backups: what is data is read, in pieces, and what the repository has already costs
 * nothing. An incremental backup reads only what a dirty bitmap says has changed.
 *
 * Invariants: a backup is published when all of it is durable; a disk that is read is read at one time, so whoever could write to
 * it is kept away by the caller.
 */
import { AssertionError } from "../base/assert.ts";
import { errnoOf, messageOf } from "../base/errors.ts";
import { type ByteRange, alignDown } from "../base/ranges.ts";
import { Pipeline } from "../block/copy/window.ts";
import type { ChunkIndex } from "../store/chunk-index.ts";
import type { Blob } from "../store/pack.ts";
import { type Backup, descriptionName, nextNumber } from "../store/description.ts";
import { Holder } from "../store/holders.ts";
import { disownBroken } from "../store/needs.ts";
import { BackupReader } from "../store/reader.ts";
import type { Damage, Repository } from "../store/repository.ts";
import { hex, newName, isoTime } from "../store/tools.ts";
import { CHUNK_BYTES, LeafTable } from "../store/tree.ts";
import { BlobWriter, DiskWriter } from "../store/writer.ts";
import { dirtyRanges } from "./bitmaps.ts";
import { mapExtents } from "./map.ts";
import type { Node } from "./node.ts";

/** Chunks that are read at once, and how many such pieces are under way. */
const PIECE_CHUNKS = 16;
const PIECES_AT_ONCE = 4;

/** An earlier backup of a disk, and what has changed since. */
export interface Since {
  readonly backup: Backup;
  /** The ranges that have changed, ascending; bytes. */
  readonly changed: () => Iterable<ByteRange> | AsyncIterable<ByteRange>;
}

/** What is backed up, and how. */
export interface BackupSource {
  readonly node: Node;
  /** What the disk is called. */
  readonly name: string;
  /** The image it is read from, for people. */
  readonly image: string;
  /** The backup that it is compared with. */
  readonly since?: Since | undefined;
  /** What the backup shall be called; default: a new name. */
  readonly id?: string | undefined;
  /** As of when the disk is, as ISO 8601; default: now. */
  readonly time?: string | undefined;
  /** The bitmap that records from this backup on. */
  readonly bitmap?: string | undefined;
  /** Of zstd, 1 … 22. */
  readonly level?: number | undefined;
}

/** How it gets on. */
export interface BackupRun {
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
  /** Told of packs that are damaged, and that nothing of this backup relies on. */
  readonly onDamage?: (damage: Damage) => void;
}

/** A run of chunks that are alike. */
export interface ChunkRun {
  readonly chunk: number;
  readonly count: number;
  readonly data: boolean;
}

/** A chunk that was read. */
interface Read {
  readonly chunk: number;
  /** Undefined: nothing but zeroes. */
  readonly hash: Uint8Array | undefined;
  /** Undefined: the store has it. */
  readonly blob: Blob | undefined;
}

/** Backs a disk up, and publishes the backup. Throws BlockError. */
export async function createBackup(
  repository: Repository,
  wanted: BackupSource,
  run: BackupRun = {},
): Promise<Backup> {
  const { tools } = repository;
  const { node } = wanted;
  const time = wanted.time ?? isoTime(tools);
  await using holder = await Holder.take(tools, `create ${wanted.name}`);
  let isDamaged = false;
  const tell = (damage: Damage): void => {
    isDamaged = true;
    run.onDamage?.(damage);
  };
  const index = await repository.index(tell);
  await disownBroken(tools, index, tell);
  const base =
    wanted.since && (await wholeBase(repository, wanted.since.backup, { known: index, isDamaged, run }));
  const source = base ? wanted : { ...wanted, since: undefined };
  const { since } = source;
  const blobs = new BlobWriter({ tools, index, holder, level: source.level, patches: repository.hasPatches });
  const disk = new DiskWriter(blobs, ...(base ?? nothing()));
  const copy = new DiskCopy({ node, blobs, disk, sha256: tools.sha256 }, run);
  const runs = since ? changedRuns(node, since) : runsOf(node, 0, chunksOf(node.length));
  await copy.all(runs);
  if (since && since.backup.size > node.length) await disk.truncate(chunksOf(node.length));
  const { hash } = await disk.finish(node.length);
  const backup = describe(source, {
    id: source.id ?? newName(tools),
    time,
    number: nextNumber(await repository.backups(() => undefined)),
    readBytes: copy.readBytes,
    newBytes: blobs.newBytes,
    storedBytes: blobs.storedBytes,
    root: hash ? hex(hash) : null,
  });
  run.signal?.throwIfAborted();
  await holder.check();
  await repository.publish(backup);
  return backup;
}

/** The description of a backup of that source. */
export function describe(
  { node, name, image, since, bitmap }: BackupSource,
  facts: Pick<Backup, "id" | "time" | "number" | "readBytes" | "newBytes" | "storedBytes" | "root">,
): Backup {
  const { id, time, number, ...cost } = facts;
  return {
    id,
    time,
    ...(number === undefined ? {} : { number }),
    name,
    size: node.length,
    image,
    kind: since ? "incremental" : "full",
    ...(since ? { parent: since.backup.id } : {}),
    ...(bitmap === undefined ? {} : { bitmap }),
    ...cost,
  };
}

/** The leaves with which a disk begins, and how its nodes are read. */
type Base = [LeafTable, (hash: Uint8Array) => Promise<Uint8Array>];

function nothing(): Base {
  const read = async (): Promise<never> => {
    throw new AssertionError("a disk that begins as nothing has no nodes");
  };
  return [new LeafTable(), read];
}

/**
 * An earlier backup as the beginning of one; undefined, and told, where something of it is missing: all of the disk has to be read then. It is
 * known by the leaves, and looked for in all chunks where something is missing for sure. One that is described while we are at work stays.
 */
async function wholeBase(
  repository: Repository,
  backup: Backup,
  { known, isDamaged, run }: { known: ChunkIndex; isDamaged: boolean; run: BackupRun },
): Promise<Base | undefined> {
  const { tools } = repository;
  const refuse = (why: string): undefined => {
    const problem = `backup ${backup.id} ${why}: this is a full backup`;
    run.onDamage?.({ object: descriptionName(backup.id), problem });
    return undefined;
  };
  if (!(await repository.has(backup))) return refuse("is not there any more");
  const index = await repository.index(() => undefined, { withCondemned: true, known });
  const reader = new BackupReader(tools, index, backup);
  try {
    if (isDamaged) await disownBroken(tools, index, () => undefined);
    const leaves = await reader.leaves();
    if (isDamaged) for await (const { hash } of reader.chunks()) index.require(hash);
    for (const { hash } of leaves.leaves()) index.require(hash);
    return [leaves, reader.blob];
  } catch (error) {
    if (errnoOf(error) !== "EIO") throw error;
    return refuse(`is not whole any more (${messageOf(error)})`);
  }
}

/** Chunks of a disk of so many bytes. */
export function chunksOf(bytes: number): number {
  return Math.ceil(bytes / CHUNK_BYTES);
}

/** The runs of chunks `from` … `end` that hold data, and of those that don't. */
export async function* runsOf(
  node: Node,
  from: number,
  end: number,
  tellHoles = false,
): AsyncGenerator<ChunkRun> {
  let next = from;
  const offset = from * CHUNK_BYTES;
  const length = Math.min(end * CHUNK_BYTES, node.length) - offset;
  if (length <= 0) return;
  for await (const extent of mapExtents(node.blockNode, { offset, length })) {
    if (extent.zero || !extent.data) continue;
    const first = Math.max(next, Math.floor(extent.offset / CHUNK_BYTES));
    const after = chunksOf(extent.offset + extent.bytes);
    if (tellHoles && first > next) yield { chunk: next, count: first - next, data: false };
    if (after > first) yield { chunk: first, count: after - first, data: true };
    next = Math.max(next, after);
  }
  if (tellHoles && end > next) yield { chunk: next, count: end - next, data: false };
}

/** The runs of chunks that have changed since a backup, and the end of a disk that has another length. */
export async function* changedRuns(node: Node, since: Since): AsyncGenerator<ChunkRun> {
  let next = 0;
  for await (const { from, end } of changedChunks(node, since)) {
    const first = Math.max(from, next);
    if (end > first) yield* runsOf(node, first, end, true);
    next = Math.max(next, end);
  }
}

async function* changedChunks(
  node: Node,
  { backup, changed }: Since,
): AsyncGenerator<{ from: number; end: number }> {
  const { length } = node;
  // Of the last chunk of the shorter disk there is more, or less, by now.
  const turn = alignDown(Math.min(backup.size, length), CHUNK_BYTES);
  const turning = { from: turn / CHUNK_BYTES, end: turn / CHUNK_BYTES + 1 };
  let told = length === backup.size || turn >= length;
  for await (const { offset, bytes } of changed()) {
    if (!told && offset >= turn) {
      told = true;
      yield turning;
    }
    yield { from: Math.floor(offset / CHUNK_BYTES), end: chunksOf(Math.min(offset + bytes, length)) };
  }
  if (!told) yield turning;
}

/** The ranges that bitmaps of the node have dirty, ascending; those of several may overlap. */
export function* dirtyIn(node: Node, ...names: readonly string[]): Generator<ByteRange> {
  const sources = names.map((name) => dirtyOfOne(node, name));
  const next = sources.map((source) => source.next());
  for (;;) {
    let first: number | undefined;
    for (const [at, { value }] of next.entries())
      if (value && (first === undefined || value.offset < next[first]!.value!.offset)) first = at;
    if (first === undefined) return;
    yield next[first]!.value!;
    next[first] = sources[first]!.next();
  }
}

function* dirtyOfOne(node: Node, bitmap: string): Generator<ByteRange, undefined> {
  for (let at = 0; at < node.length;) {
    const ranges = dirtyRanges(node, bitmap, { offset: at }) ?? [];
    yield* ranges;
    const last = ranges.at(-1);
    if (!last) return;
    at = last.offset + last.bytes;
  }
}

interface CopyParts {
  readonly node: Node;
  readonly blobs: BlobWriter;
  readonly disk: DiskWriter;
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
}

/** Reads runs of chunks and gives them to the writers, in order. */
class DiskCopy {
  readonly #parts: CopyParts;
  readonly #run: BackupRun;
  readonly #done: Read[] = [];
  readonly #pipeline = new Pipeline<Read[]>(PIECES_AT_ONCE, (reads) => void this.#done.push(...reads));
  readBytes = 0;

  constructor(parts: CopyParts, run: BackupRun) {
    this.#parts = parts;
    this.#run = run;
  }

  async all(runs: AsyncIterable<ChunkRun>): Promise<void> {
    try {
      for await (const { chunk, count, data } of runs) {
        for (let at = 0; at < count; at += PIECE_CHUNKS) {
          this.#run.signal?.throwIfAborted();
          const piece = { chunk: chunk + at, count: Math.min(PIECE_CHUNKS, count - at), data };
          await this.#pipeline.push(() => (data ? this.#read(piece) : holes(piece)));
          await this.#keep();
        }
      }
      await this.#pipeline.drain();
      await this.#keep();
    } finally {
      await this.#pipeline.settle();
    }
  }

  async #read({ chunk, count }: ChunkRun): Promise<Read[]> {
    const { node, blobs, sha256 } = this.#parts;
    const { kernels } = node.engine.graph;
    const offset = chunk * CHUNK_BYTES;
    const buffer = new Uint8Array(Math.min(count * CHUNK_BYTES, node.length - offset));
    await node.read(offset, buffer);
    this.readBytes += buffer.byteLength;
    const reads: Promise<Read>[] = [];
    for (let at = 0; at < count; at += 1) {
      const content = buffer.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES);
      if (kernels.isZero(content))
        reads.push(Promise.resolve({ chunk: chunk + at, hash: undefined, blob: undefined }));
      else {
        const hash = sha256(content);
        reads.push(blobs.prepare(hash, content).then((blob) => ({ chunk: chunk + at, hash, blob })));
      }
    }
    return Promise.all(reads);
  }

  /** What is there in order goes into the store. */
  async #keep(): Promise<void> {
    const { node, blobs, disk } = this.#parts;
    for (const { chunk, hash, blob } of this.#done.splice(0)) {
      if (blob) await blobs.put(blob);
      await disk.set(chunk, hash);
      this.#run.onProgress?.(Math.min((chunk + 1) * CHUNK_BYTES, node.length), node.length);
    }
  }
}

function holes({ chunk, count }: ChunkRun): Read[] {
  return Array.from({ length: count }, (_, at) => ({ chunk: chunk + at, hash: undefined, blob: undefined }));
}
