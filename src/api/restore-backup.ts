/**
 * Disks out of a repository of backups. What a seed, an older state of the disk or another one like it, has of the chunks is taken from
 * there, wherever it lies, and not read from the repository.
 *
 * Invariant: what is written was held against its hash, whoever had it.
 */
import { Pipeline } from "../block/copy/window.ts";
import type { Backup } from "../store/description.ts";
import { Holder } from "../store/holders.ts";
import { BackupReader } from "../store/reader.ts";
import type { Repository } from "../store/repository.ts";
import { hex } from "../store/tools.ts";
import { CHUNK_BYTES } from "../store/tree.ts";
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
  await using _holder = await Holder.take(tools, `restore ${backup.id}`);
  const index = await repository.index((damage) => run.onDamage?.(damage), { withCondemned: true });
  const reader = new BackupReader(tools, index, backup);
  const put = (chunk: number, content: Uint8Array): Promise<void> =>
    target.write(chunk * CHUNK_BYTES, own(content));
  let chunks: AsyncIterable<ChunkPlaces> | Iterable<ChunkPlaces> = placesOf(reader);
  let seedBytes = 0;
  if (seeds.length > 0) {
    const left = new Wanted(tools.sha256, put);
    for await (const { at, hash } of chunks) left.add(at[0]!, hash);
    for (const seed of seeds) seedBytes += await left.takeFrom(seed, run);
    chunks = left.rest();
  }
  const pipeline = new Pipeline<number>(PIECES_AT_ONCE, (end) =>
    run.onProgress?.(Math.min(end, backup.size), backup.size),
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

/** A chunk, and the numbers of the places where it lies, ascending. */
interface ChunkPlaces {
  readonly hash: Uint8Array;
  readonly at: number[];
}

/** The chunks of a backup in order, each place by itself. */
async function* placesOf(reader: BackupReader): AsyncGenerator<ChunkPlaces> {
  for await (const { chunk, hash } of reader.chunks()) yield { hash, at: [chunk] };
}

/** Chunks that are not restored yet, by their hashes. */
class Wanted {
  readonly #chunks = new Map<string, ChunkPlaces>();
  readonly #sha256: (bytes: Uint8Array) => Uint8Array;
  readonly #put: (chunk: number, content: Uint8Array) => Promise<void>;

  constructor(
    sha256: (bytes: Uint8Array) => Uint8Array,
    put: (chunk: number, content: Uint8Array) => Promise<void>,
  ) {
    this.#sha256 = sha256;
    this.#put = put;
  }

  add(chunk: number, hash: Uint8Array): void {
    const name = hex(hash);
    const known = this.#chunks.get(name);
    if (known) known.at.push(chunk);
    else this.#chunks.set(name, { hash, at: [chunk] });
  }

  /** Restores what a disk has of them; answers its bytes. */
  async takeFrom(seed: Node, { signal }: BackupRun): Promise<number> {
    let bytes = 0;
    for await (const { chunk, count } of runsOf(seed, 0, chunksOf(seed.length))) {
      const end = Math.min((chunk + count) * CHUNK_BYTES, seed.length);
      for (let at = chunk * CHUNK_BYTES; at < end; at += SEED_PIECE) {
        signal?.throwIfAborted();
        if (this.#chunks.size === 0) return bytes;
        bytes += await this.#takeAll(await seed.read(at, Math.min(SEED_PIECE, end - at)));
      }
    }
    return bytes;
  }

  async #takeAll(piece: Uint8Array): Promise<number> {
    let bytes = 0;
    for (let from = 0; from < piece.byteLength; from += CHUNK_BYTES) {
      const content = piece.subarray(from, from + CHUNK_BYTES);
      const name = hex(this.#sha256(content));
      const wanted = this.#chunks.get(name);
      if (!wanted) continue;
      this.#chunks.delete(name);
      for (const chunk of wanted.at) await this.#put(chunk, content);
      bytes += content.byteLength * wanted.at.length;
    }
    return bytes;
  }

  /** Those that no seed had, by their first places. */
  rest(): Iterable<ChunkPlaces> {
    return this.#chunks.values();
  }
}

/** Bytes that are nobody else's; those of a store come in memory that is not shared. */
function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
