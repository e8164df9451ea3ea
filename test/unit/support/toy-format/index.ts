/**
 * A small writable format for tests, added as any format is: this folder and a line in a registry. A header, a map with one
 * entry of four bytes for each cluster, and the clusters, each where it was first written: 0 is a hole, n is cluster n of the file.
 *
 * Invariants: the file grows only; data is durable before the entry that names it (writeBack); the map is in memory while the
 * image is open, so it is bounded (MAX_CLUSTERS) before it is read.
 */
import { BlockError, ImageError } from "../../../../src/base/errors.ts";
import { SECTOR_SIZE } from "../../../../src/base/limits.ts";
import { alignUp } from "../../../../src/base/ranges.ts";
import { Mutex } from "../../../../src/base/signals.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type CheckRequest,
  type ChildRef,
  type CreateContext,
  type CreateOption,
  type DriverInfo,
  type DriverType,
  type Edge,
  type ImageCheck,
  type MeasureRequest,
  type MeasureResult,
  Role,
} from "../../../../src/block/model/contract.ts";
import { childOption } from "../../../../src/block/model/options.ts";
import { Perm } from "../../../../src/block/model/permissions.ts";

const MAGIC = 0x42_57_54_4f;
const HEADER_BYTES = 512;
const MAX_CLUSTERS = 2 ** 16;
const DEFAULT_CLUSTER = 4096;

interface Header {
  size: number;
  clusterSize: number;
}

function fault(field: string, message: string): ImageError {
  return new ImageError({ structure: "toy header", field, code: "EINVAL", message });
}

function parseHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < 24 || view.getUint32(0) !== MAGIC) throw fault("magic", "Image not in toy format");
  const clusterSize = view.getUint32(4);
  const size = view.getBigUint64(8);
  if (clusterSize < SECTOR_SIZE || clusterSize > 65_536 || !Number.isInteger(Math.log2(clusterSize)))
    throw fault("cluster_size", `Invalid cluster size ${clusterSize}`);
  if (size % BigInt(SECTOR_SIZE) !== 0n || size > BigInt(MAX_CLUSTERS * clusterSize))
    throw fault("size", `Invalid size ${size}`);
  return { size: Number(size), clusterSize };
}

function serializeHeader({ size, clusterSize }: Header): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(4, clusterSize);
  view.setBigUint64(8, BigInt(size));
  return bytes;
}

/** First cluster of the file behind header and map: the map has room for the largest disk. */
function firstCluster(clusterSize: number): number {
  return Math.ceil((HEADER_BYTES + MAX_CLUSTERS * 4) / clusterSize);
}

async function readMap(file: Edge): Promise<{ header: Header; map: DataView<ArrayBuffer> }> {
  const head = new Uint8Array(HEADER_BYTES);
  if (file.length >= HEADER_BYTES) await file.pread(0, head);
  const header = parseHeader(head);
  const map = new Uint8Array(MAX_CLUSTERS * 4);
  if (file.length < HEADER_BYTES + map.byteLength) throw fault("map", "The file ends within the map");
  await file.pread(HEADER_BYTES, map);
  return { header, map: new DataView(map.buffer) };
}

class Toy implements BlockDriver {
  readonly #file: Edge;
  readonly #map: DataView<ArrayBuffer>;
  readonly #mutex = new Mutex();
  readonly #clusterSize: number;
  #size: number;
  #next: number;
  #dirty = false;

  constructor(file: Edge, { header, map }: { header: Header; map: DataView<ArrayBuffer> }) {
    this.#file = file;
    this.#map = map;
    this.#clusterSize = header.clusterSize;
    this.#size = header.size;
    this.#next = Math.max(firstCluster(header.clusterSize), Math.ceil(file.length / header.clusterSize));
    for (let at = 0; at < MAX_CLUSTERS; at++) this.#checkEntry(at);
  }

  length(): number {
    return this.#size;
  }

  getInfo(): DriverInfo {
    return { clusterSize: this.#clusterSize };
  }

  hasZeroInit(): boolean {
    return true;
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    for (const part of this.#parts(offset, buffer.byteLength)) {
      const piece = buffer.subarray(part.from, part.from + part.bytes);
      const cluster = this.#entry(part.index);
      if (cluster === 0) piece.fill(0);
      else await this.#file.pread(cluster * this.#clusterSize + part.within, piece);
    }
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    for (const part of this.#parts(offset, buffer.byteLength))
      await this.#writePart(part, buffer.subarray(part.from, part.from + part.bytes));
  }

  async pwriteZeroes(offset: number, bytes: number): Promise<void> {
    for (const part of this.#parts(offset, bytes)) {
      if (part.bytes === this.#clusterSize) await this.#mutex.run(() => this.#setEntry(part.index, 0));
      else if (this.#entry(part.index) !== 0) await this.#writePart(part, new Uint8Array(part.bytes));
    }
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    for (const part of this.#parts(offset, bytes))
      if (part.bytes === this.#clusterSize) await this.#mutex.run(() => this.#setEntry(part.index, 0));
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    let reach = 0;
    const first = this.#entry(Math.floor(offset / this.#clusterSize)) !== 0;
    for (const part of this.#parts(offset, bytes)) {
      if ((this.#entry(part.index) !== 0) !== first) break;
      reach += part.bytes;
    }
    return Promise.resolve({ bytes: reach, data: first, zero: !first, allocated: true });
  }

  async truncate(size: number): Promise<void> {
    if (size % SECTOR_SIZE !== 0 || size > MAX_CLUSTERS * this.#clusterSize)
      throw new BlockError({ code: "EFBIG", op: "truncate", message: "The toy cannot be that large" });
    if (size < this.#size) await this.pwriteZeroes(size, alignUp(this.#size, this.#clusterSize) - size);
    await this.writeBack();
    await this.#file.pwrite(0, serializeHeader({ size, clusterSize: this.#clusterSize }));
    this.#size = size;
  }

  /** The data that the map will name first. */
  async writeBack(): Promise<void> {
    if (!this.#dirty) return;
    this.#dirty = false;
    try {
      await this.#file.flush();
      await this.#file.pwrite(HEADER_BYTES, new Uint8Array(this.#map.buffer.slice(0)));
    } catch (error) {
      this.#dirty = true;
      throw error;
    }
  }

  close(): Promise<void> {
    return this.writeBack();
  }

  #entry(index: number): number {
    return this.#map.getUint32(index * 4);
  }

  #setEntry(index: number, cluster: number): Promise<void> {
    this.#map.setUint32(index * 4, cluster);
    this.#dirty = true;
    return Promise.resolve();
  }

  #checkEntry(index: number): void {
    const cluster = this.#entry(index);
    if (cluster === 0) return;
    const isOutside =
      cluster < firstCluster(this.#clusterSize) ||
      (cluster + 1) * this.#clusterSize > alignUp(this.#file.length, this.#clusterSize);
    if (isOutside) throw fault("map", `Entry ${index} lies outside of the data`);
  }

  async #writePart({ index, within }: Part, data: Uint8Array): Promise<void> {
    const known = this.#entry(index);
    if (known !== 0) return this.#file.pwrite(known * this.#clusterSize + within, data);
    await this.#mutex.run(async () => {
      const since = this.#entry(index);
      const cluster = since === 0 ? this.#next : since;
      if (since !== 0) return this.#file.pwrite(since * this.#clusterSize + within, data);
      const whole = new Uint8Array(this.#clusterSize);
      whole.set(data, within);
      await this.#file.pwrite(cluster * this.#clusterSize, whole);
      this.#next += 1;
      await this.#setEntry(index, cluster);
    });
  }

  *#parts(offset: number, bytes: number): Generator<Part> {
    for (let at = offset; at < offset + bytes;) {
      const index = Math.floor(at / this.#clusterSize);
      const end = Math.min((index + 1) * this.#clusterSize, offset + bytes);
      yield { index, within: at % this.#clusterSize, from: at - offset, bytes: end - at };
      at = end;
    }
  }
}

interface Part {
  index: number;
  within: number;
  from: number;
  bytes: number;
}

const maker = { perm: Perm.write | Perm.resize | Perm.consistentRead, shared: Perm.all };

async function create({ graph }: CreateContext, options: Record<string, unknown>): Promise<void> {
  const header = {
    size: Number(options["size"]),
    clusterSize: Number(options["cluster-size"] ?? DEFAULT_CLUSTER),
  };
  parseHeader(serializeHeader(header));
  const file = await graph.take(options["file"] as ChildRef);
  try {
    await graph.withRoot(file, maker, async (edge) => {
      const bytes = firstCluster(header.clusterSize) * header.clusterSize;
      await edge.truncate(0, { exact: false, preallocation: "off" });
      await edge.truncate(bytes, { exact: false, preallocation: "off" });
      await edge.pwrite(0, serializeHeader(header));
    });
  } finally {
    await graph.release(file);
  }
}

function measure({ options, bytes, source }: MeasureRequest): MeasureResult {
  const clusterSize = Number(options["cluster-size"] ?? DEFAULT_CLUSTER);
  const metadata = firstCluster(clusterSize) * clusterSize;
  const data = alignUp(bytes, clusterSize);
  return { requiredBytes: metadata + (source ? data : 0), fullyAllocatedBytes: metadata + data };
}

/** Clusters that nothing names are leaks; entries that name a cluster twice, or one that is not there, are corrupt. */
async function check(
  { graph }: CreateContext,
  { file: ref, fix, message }: CheckRequest,
): Promise<ImageCheck> {
  const found = {
    corruptions: 0,
    leaks: 0,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEndOffset: 0,
  };
  const node = await graph.take(ref);
  try {
    return await graph.withRoot(
      node,
      { ...maker, perm: fix.errors ? maker.perm : Perm.consistentRead },
      async (file) => {
        const { header, map } = await readMap(file);
        const used = new Set<number>();
        const end = Math.ceil(file.length / header.clusterSize);
        for (let index = 0; index < MAX_CLUSTERS; index++) {
          const cluster = map.getUint32(index * 4);
          if (cluster === 0) continue;
          if (cluster >= firstCluster(header.clusterSize) && cluster < end && !used.has(cluster))
            used.add(cluster);
          else {
            message(`ERROR entry ${index} names cluster ${cluster}`);
            found[fix.errors ? "corruptionsFixed" : "corruptions"] += 1;
            if (fix.errors) await file.pwrite(HEADER_BYTES + index * 4, new Uint8Array(4));
          }
        }
        found.leaks = end - firstCluster(header.clusterSize) - used.size;
        found.imageEndOffset = end * header.clusterSize;
        const totalClusters = Math.ceil(header.size / header.clusterSize);
        return {
          ...found,
          clusterSize: header.clusterSize,
          totalClusters,
          allocatedClusters: used.size,
          fragmentedClusters: 0,
          compressedClusters: 0,
        };
      },
    );
  } finally {
    await graph.release(node);
  }
}

const createOptions: readonly CreateOption[] = [
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  { name: "cluster_size", type: "size", wire: "cluster-size", default: "4096", help: "toy cluster size" },
];

/** The format. */
export const toy: DriverType = {
  name: "toy",
  kind: "format",
  createOptions,
  async open(context, spec) {
    const file = await context.openChild(childOption(spec, "file"), "file", Role.image);
    return new Toy(file, await readMap(file));
  },
  create,
  measure,
  check,
  probe: (head) => (new DataView(head.buffer, head.byteOffset).getUint32(0) === MAGIC ? 100 : 0),
};
