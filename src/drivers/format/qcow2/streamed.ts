/**
 * A qcow2 image as a stream of bytes, from the first to the last, for targets that cannot seek: all metadata comes first,
 * so it is planned before a byte is given out. Without compression the plan follows from the source's block status alone;
 * with it, every cluster is compressed twice, once to learn its size and once to give it out, and nothing is stored.
 *
 * Invariants: memory is that of the tables (an L2 table for each 512 MiB that hold data, at 64 KiB clusters) and one
 * piece; the source must not change meanwhile (EIO if a cluster does not compress to its planned size again). The image
 * has no backing file. Source: qcow2.txt.
 */
import { assert } from "../../../base/assert.ts";
import { blockError } from "../../../base/errors.ts";
import { KiB, limits, SECTOR_SIZE } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import type { StreamSource } from "../../../block/model/contract.ts";
import { makeHeader } from "./create.ts";
import { serializeHeader } from "./disk/header.ts";
import {
  COPIED_HIGH,
  type Geometry,
  compressedEntry,
  isPowerOfTwoBetween,
  l1EntriesFor,
  makeGeometry,
  writeEntry,
  writeU64,
} from "./disk/layout.ts";

const REFCOUNT_ORDER = 4;
const PIECE_BYTES = 1024 * 1024;

/** What is streamed, and how. */
interface StreamedSource extends Pick<StreamSource, "length" | "dataRuns" | "read" | "onProgress"> {
  readonly clusterBits: number;
  /** Compresses one cluster; undefined if it does not get smaller than `limit`. Absent: nothing is compressed. */
  deflate?(data: Uint8Array, limit: number): Promise<Uint8Array | undefined>;
  isZero(data: Uint8Array): boolean;
}

/** Gathers what is given out into pieces. */
class Pieces {
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /** Takes a part, which must stay as it is; gives a piece when one is full. */
  *add(part: Uint8Array): Generator<Uint8Array<ArrayBuffer>> {
    this.#parts.push(part);
    this.#bytes += part.byteLength;
    if (this.#bytes >= PIECE_BYTES) yield* this.rest();
  }

  *rest(): Generator<Uint8Array<ArrayBuffer>> {
    if (this.#bytes === 0) return;
    const piece = new Uint8Array(this.#bytes);
    let at = 0;
    for (const part of this.#parts) {
      piece.set(part, at);
      at += part.byteLength;
    }
    assert(at === this.#bytes, "parts within their whole");
    this.#parts = [];
    this.#bytes = 0;
    yield piece;
  }
}

/** The plan: tables, and where everything lies. */
class Plan {
  readonly geometry: Geometry;
  /** L2 tables by their index; those that hold nothing are absent. */
  readonly tables = new Map<number, DataView<ArrayBuffer>>();
  /** Guest clusters with data, in order, as runs. */
  readonly runs: { first: number; count: number }[] = [];
  /** Bytes of the compressed cluster, by its place among the data; 0: zeroes; a cluster: as it is. */
  sizes: Uint32Array | undefined;
  dataClusters = 0;
  /** References to each cluster of the file, those of metadata included. */
  refcounts = new Uint16Array(0);
  #firstData = 0;
  /** First free byte behind the data so far. */
  #end = 0;
  #blocks = 0;
  #tableClusters = 0;
  readonly #length: number;

  constructor(length: number, clusterBits: number) {
    this.#length = length;
    this.geometry = makeGeometry(clusterBits, REFCOUNT_ORDER);
  }

  get l1Clusters(): number {
    return Math.ceil((l1EntriesFor(this.#length, this.geometry) * 8) / this.geometry.clusterSize);
  }

  /** Takes a run of data into the plan. */
  add({ offset, bytes }: { offset: number; bytes: number }): void {
    const { clusterSize, l2Entries } = this.geometry;
    const last = this.runs.at(-1);
    const next = last ? last.first + last.count : 0;
    const first = Math.max(next, Math.floor(offset / clusterSize));
    const count = Math.ceil((offset + bytes) / clusterSize) - first;
    if (count <= 0) return;
    if (last && first === next) last.count += count;
    else this.runs.push({ first, count });
    this.dataClusters += count;
    for (let table = Math.floor(first / l2Entries); table * l2Entries < first + count; table++) {
      if (!this.tables.has(table)) this.tables.set(table, new DataView(new ArrayBuffer(clusterSize)));
    }
  }

  /** Fixes where the data begins. Refcount blocks are for as much data as there can be. */
  layOut(): void {
    const { clusterSize, blockEntries } = this.geometry;
    const others = 1 + this.l1Clusters + this.tables.size + this.dataClusters;
    for (let before = -1; before !== this.#blocks;) {
      before = this.#blocks;
      this.#tableClusters = Math.max(1, Math.ceil((this.#blocks * 8) / clusterSize));
      this.#blocks = Math.ceil((others + this.#blocks + this.#tableClusters) / blockEntries);
    }
    assert(this.#firstData === 0, "laid out once");
    this.#firstData = 1 + this.#tableClusters + this.#blocks + this.l1Clusters + this.tables.size;
    this.#end = this.#firstData * clusterSize;
    this.refcounts = new Uint16Array(this.#blocks * blockEntries);
    this.refcounts.fill(1, 0, this.#firstData);
  }

  /** Gives `bytes` of stream the next place, or a whole cluster one of its own. */
  place(cluster: number, bytes: number): void {
    const { clusterSize, clusterBits, l2Entries } = this.geometry;
    const offset = bytes === clusterSize ? alignUp(this.#end, clusterSize) : this.#end;
    this.#end = offset + bytes;
    for (let host = Math.floor(offset / clusterSize); host * clusterSize < this.#end; host++) {
      this.refcounts[host] = (this.refcounts[host] ?? 0) + 1;
    }
    const table = this.tables.get(Math.floor(cluster / l2Entries));
    assert(table && this.#end <= this.refcounts.length * clusterSize, "what is placed was planned");
    const at = (cluster % l2Entries) * 8;
    if (bytes === clusterSize) writeEntry(table, at, offset, COPIED_HIGH);
    else {
      const [high, low] = compressedEntry({ offset, bytes }, clusterBits);
      table.setUint32(at, high);
      table.setUint32(at + 4, low);
    }
  }

  /** Where the data begins and ends, bytes. */
  get data(): { start: number; end: number } {
    const { clusterSize } = this.geometry;
    return { start: this.#firstData * clusterSize, end: alignUp(this.#end, clusterSize) };
  }

  /** Header and tables, in the file's order. */
  *metadata(): Generator<Uint8Array> {
    const { clusterSize, clusterBits } = this.geometry;
    const l1Offset = (1 + this.#tableClusters + this.#blocks) * clusterSize;
    const header = makeHeader(
      {
        version: 3,
        clusterBits,
        refcountOrder: REFCOUNT_ORDER,
        lazyRefcounts: false,
        backingFile: undefined,
        backingFormat: undefined,
        dataFileRaw: false,
        compression: "zlib",
        extended: false,
      },
      undefined,
    );
    Object.assign(header, {
      size: alignUp(this.#length, SECTOR_SIZE),
      l1Size: l1EntriesFor(this.#length, this.geometry),
      l1Offset,
      refcountTableClusters: this.#tableClusters,
    });
    const first = new Uint8Array(clusterSize);
    first.set(serializeHeader(header).bytes);
    yield first;
    const table = new DataView(new ArrayBuffer(this.#tableClusters * clusterSize));
    const blocksAt = (1 + this.#tableClusters) * clusterSize;
    for (let block = 0; block < this.#blocks; block++)
      writeU64(table, block * 8, blocksAt + block * clusterSize);
    yield new Uint8Array(table.buffer);
    yield this.#refcountBlocks();
    const l1 = new DataView(new ArrayBuffer(this.l1Clusters * clusterSize));
    const indices = [...this.tables.keys()].toSorted((a, b) => a - b);
    const tablesAt = l1Offset + l1.byteLength;
    for (const [at, index] of indices.entries()) {
      writeEntry(l1, index * 8, tablesAt + at * clusterSize, COPIED_HIGH);
    }
    yield new Uint8Array(l1.buffer);
    for (const index of indices) yield new Uint8Array(this.tables.get(index)!.buffer);
  }

  #refcountBlocks(): Uint8Array {
    const view = new DataView(new ArrayBuffer(this.refcounts.length * 2));
    for (const [index, count] of this.refcounts.entries()) if (count > 0) view.setUint16(index * 2, count);
    return new Uint8Array(view.buffer);
  }
}

/** Gives out the image. Errors are those of the source. */
/**
 * The image. Throws EINVAL for a cluster size that there is none of (`cluster-size`, bytes, a power of two, 512 … 2 MiB;
 * default 64 KiB). With `compress` the disk is read twice.
 */
export function streamQcow2(source: StreamSource): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { host, kernels, options, compress } = source;
  const clusterBytes = Number(options["cluster-size"] ?? 64 * KiB);
  const least = 2 ** limits.qcow2MinClusterBits;
  const most = 2 ** limits.qcow2MaxClusterBits;
  if (!isPowerOfTwoBetween(clusterBytes, least, most))
    throw blockError(
      "EINVAL",
      "stream",
      `Cluster size must be a power of two between ${least} and ${most / KiB}k`,
    );
  return pieces({
    length: source.length,
    clusterBits: Math.log2(clusterBytes),
    dataRuns: () => source.dataRuns(),
    read: (offset, buffer) => source.read(offset, buffer),
    isZero: (data) => kernels.isZero(data),
    onProgress: (done, total) => source.onProgress?.(done, total),
    ...(compress
      ? { deflate: (data: Uint8Array, limit: number) => host.codecs.deflateRaw(data, limit) }
      : {}),
  });
}

async function* pieces(source: StreamedSource): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const plan = new Plan(source.length, source.clusterBits);
  for await (const run of source.dataRuns()) plan.add(run);
  plan.layOut();
  const { clusterSize } = plan.geometry;
  const progress = counter(source, plan);
  if (source.deflate) await measure(source, plan, progress);
  else for (const cluster of clusters(plan)) plan.place(cluster, clusterSize);
  const given = new Pieces();
  for (const part of plan.metadata()) yield* given.add(part);
  let at = plan.data.start;
  let index = 0;
  for (const cluster of clusters(plan)) {
    const size = plan.sizes?.[index++] ?? clusterSize;
    if (size > 0) {
      const part = await take({ source, clusterSize, cluster, size });
      // Before a cluster of its own the one that streams have begun is filled up.
      const room = alignUp(at, clusterSize) - at;
      if (size === clusterSize && room > 0) {
        yield* given.add(new Uint8Array(room));
        at += room;
      }
      yield* given.add(part);
      at += size;
    }
    progress();
  }
  assert(at <= plan.data.end, "what is given was planned");
  if (at < plan.data.end) yield* given.add(new Uint8Array(plan.data.end - at));
  yield* given.rest();
}

function* clusters(plan: Plan): Generator<number> {
  for (const { first, count } of plan.runs) for (let n = 0; n < count; n++) yield first + n;
}

function counter(source: StreamedSource, plan: Plan): () => void {
  const total = plan.dataClusters * (source.deflate ? 2 : 1);
  let done = 0;
  source.onProgress?.(0, total);
  return () => source.onProgress?.((done += 1), total);
}

/** Learns the size of every cluster. */
async function measure(source: StreamedSource, plan: Plan, progress: () => void): Promise<void> {
  const { clusterSize } = plan.geometry;
  const sizes = new Uint32Array(plan.dataClusters);
  plan.sizes = sizes;
  let index = 0;
  for (const cluster of clusters(plan)) {
    const data = await readCluster(source, cluster, clusterSize);
    if (!source.isZero(data)) {
      const stream = await source.deflate!(data, clusterSize);
      const size = stream && stream.byteLength < clusterSize ? stream.byteLength : clusterSize;
      sizes[index] = size;
      plan.place(cluster, size);
    }
    index += 1;
    progress();
  }
  assert(index === sizes.length, "each cluster was measured");
}

async function take(what: {
  source: StreamedSource;
  clusterSize: number;
  cluster: number;
  size: number;
}): Promise<Uint8Array> {
  const { source, clusterSize, cluster, size } = what;
  const data = await readCluster(source, cluster, clusterSize);
  if (size === clusterSize) return data;
  const stream = await source.deflate!(data, clusterSize);
  if (stream?.byteLength === size) return stream;
  throw blockError("EIO", "export", "the disk has changed while it was exported");
}

async function readCluster(
  source: StreamedSource,
  cluster: number,
  clusterSize: number,
): Promise<Uint8Array> {
  const data = new Uint8Array(clusterSize);
  const offset = cluster * clusterSize;
  await source.read(offset, data.subarray(0, Math.min(clusterSize, source.length - offset)));
  return data;
}
