/**
 * Disks out of a repository of backups. What a seed, an older state of the disk or another one like it, has of the chunks is taken from
 * there, wherever it lies, and not read from the repository.
 *
 * Invariant: what is written was held against its hash, whoever had it.
 */
import { Pipeline } from "../block/copy/window.ts";
import type { Backup } from "../store/description.ts";
import type { ChunkIndex } from "../store/chunk-index.ts";
import { Holder } from "../store/holders.ts";
import { BackupReader } from "../store/reader.ts";
import type { Repository } from "../store/repository.ts";
import { isSame } from "../store/tools.ts";
import { CHUNK_BYTES } from "../store/tree.ts";
import { type ChunkPlaces, SeedPlaces, WantedChunks } from "../store/wanted.ts";
import { type BackupRun, chunksOf, runsOf } from "./backups.ts";
import type { Node } from "./node.ts";

const PIECES_AT_ONCE = 4;
const SEED_PIECE = 16 * CHUNK_BYTES;

/** What is restored, and where. */
export interface Restoring {
  readonly backup: Backup;
  /** Open and writable, of the backup's length at least; it reads as zeroes. */
  readonly target: Node;
  /** Disks that may have some of it. */
  readonly seeds?: readonly Node[] | undefined;
}

/** Writes a backup's disk into the target, durably. Answers how many bytes came from the seeds. */
export async function restoreBackup(
  repository: Repository,
  { backup, target, seeds = [] }: Restoring,
  run: BackupRun = {},
): Promise<number> {
  const { tools } = repository;
  await using _holder = await Holder.take(tools, `restore ${backup.id}`, { reads: true });
  const index = await repository.index((damage) => run.onDamage?.(damage), { withCondemned: true });
  const known = seeds.length > 0 ? new KnownSeeds(seeds, index, tools.sha256) : undefined;
  const reader = new BackupReader(tools, index, backup, known?.read);
  const put = (chunk: number, content: Uint8Array): Promise<void> =>
    target.write(chunk * CHUNK_BYTES, own(content));
  let chunks: AsyncIterable<ChunkPlaces> = placesOf(reader);
  let seedBytes = 0;
  /** Bytes of the seeds that were looked through. */
  let looked = 0;
  const total = seeds.reduce((sum, { length }) => sum + length, backup.size);
  if (known) {
    const left = new WantedChunks(index, chunksOf(backup.size));
    for await (const { chunk, hash } of reader.chunks()) left.add(chunk, hash);
    for (const seed of seeds) {
      const onProgress = (done: number): void => run.onProgress?.(looked + done, total);
      seedBytes += await takeFrom(seed, { left, put, known, sha256: tools.sha256 }, { ...run, onProgress });
      looked += seed.length;
    }
    chunks = left.rest(reader.chunks());
  }
  const pipeline = new Pipeline<number>(PIECES_AT_ONCE, (end) =>
    run.onProgress?.(looked + Math.min(end, backup.size), total),
  );
  try {
    for await (const { at, hash } of chunks) {
      run.signal?.throwIfAborted();
      await pipeline.push(async () => {
        const content = await reader.blob(hash);
        for (const chunk of at) await put(chunk, content);
        return (at[0]! + 1) * CHUNK_BYTES;
      });
    }
    await pipeline.drain();
  } finally {
    await pipeline.settle();
  }
  await target.flush();
  return seedBytes;
}

/** The chunks of a backup in order, each place by itself. */
async function* placesOf(reader: BackupReader): AsyncGenerator<ChunkPlaces> {
  for await (const { chunk, hash } of reader.chunks()) yield { hash, at: [chunk] };
}

/** What was seen of the seeds: chunks that others are built of are taken from there, too. */
class KnownSeeds {
  readonly #seeds: readonly Node[];
  readonly #places: SeedPlaces;
  readonly #sha256: (bytes: Uint8Array) => Uint8Array;

  constructor(seeds: readonly Node[], index: ChunkIndex, sha256: (bytes: Uint8Array) => Uint8Array) {
    this.#seeds = seeds;
    this.#places = new SeedPlaces(index);
    this.#sha256 = sha256;
  }

  add(hash: Uint8Array, seed: Node, chunk: number): void {
    let place = chunk;
    for (const before of this.#seeds.slice(0, this.#seeds.indexOf(seed))) place += chunksOf(before.length);
    this.#places.add(hash, place);
  }

  /** The content of a chunk that a seed has, and has still. */
  readonly read = async (hash: Uint8Array): Promise<Uint8Array | undefined> => {
    let chunk = this.#places.find(hash);
    if (chunk === undefined) return undefined;
    for (const seed of this.#seeds) {
      const chunks = chunksOf(seed.length);
      if (chunk < chunks) return this.#content(hash, seed, chunk * CHUNK_BYTES);
      chunk -= chunks;
    }
    return undefined;
  };

  async #content(hash: Uint8Array, seed: Node, offset: number): Promise<Uint8Array | undefined> {
    const bytes = Math.min(CHUNK_BYTES, seed.length - offset);
    // The repository has it, too.
    const content = await seed.read(offset, bytes).catch(() => undefined);
    return content && isSame(this.#sha256(content), hash) ? content : undefined;
  }
}

interface Taking {
  readonly left: WantedChunks;
  readonly known: KnownSeeds;
  readonly put: (chunk: number, content: Uint8Array) => Promise<void>;
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
}

/** Restores what a disk has of the chunks that are left; answers its bytes. */
async function takeFrom(
  seed: Node,
  { left, put, known, sha256 }: Taking,
  { signal, onProgress }: BackupRun,
): Promise<number> {
  let taken = 0;
  for await (const { chunk, count } of runsOf(seed, 0, chunksOf(seed.length))) {
    const end = Math.min((chunk + count) * CHUNK_BYTES, seed.length);
    for (let at = chunk * CHUNK_BYTES; at < end; at += SEED_PIECE) {
      signal?.throwIfAborted();
      if (left.isEmpty) return taken;
      const piece = await seed.read(at, Math.min(SEED_PIECE, end - at));
      for (let from = 0; from < piece.byteLength; from += CHUNK_BYTES) {
        const content = piece.subarray(from, from + CHUNK_BYTES);
        const hash = sha256(content);
        known.add(hash, seed, (at + from) / CHUNK_BYTES);
        for (const place of left.take(hash)) {
          await put(place, content);
          taken += content.byteLength;
        }
      }
      onProgress?.(at + piece.byteLength, seed.length);
    }
  }
  return taken;
}

/** Bytes that are nobody else's; those of a store come in memory that is not shared. */
function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
