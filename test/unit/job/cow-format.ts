// A format with a backing file that keeps its clusters in memory, and writes down in which order its flushes and its
// header changes came. For tests of jobs, which must not depend on a real format.
import { BlockError } from "../../../src/base/errors.ts";
import type {
  BlockDriver,
  BlockStatus,
  DriverType,
  HeaderBacking,
} from "../../../src/block/model/contract.ts";
import type { NodeView } from "../../../src/block/model/contract.ts";

export const clusterBytes = 64 * 1024;

/** What a test sets before opening, by node name, and reads afterwards. */
export interface CowImage {
  size: number;
  clusters: Map<number, Uint8Array>;
  /** The header's backing file. */
  header: { filename: string; format?: string } | null;
  /** `flush`, `header` and `write`, in order. */
  log: string[];
  /** The operation and its errno; `cluster`: only of requests that touch it. */
  faults: {
    op: "read" | "write" | "header" | "status";
    code: "EIO" | "ENOSPC";
    once: boolean;
    cluster?: number;
  }[];
}

export const images = new Map<string, CowImage>();

/** An empty image for a node of that name. */
export function makeImage(name: string, size: number, backing?: string): CowImage {
  const image: CowImage = {
    size,
    clusters: new Map(),
    header: backing === undefined ? null : { filename: backing, format: "cow" },
    log: [],
    faults: [],
  };
  images.set(name, image);
  return image;
}

class Cow implements BlockDriver {
  readonly #node: NodeView;
  readonly #image: CowImage;

  constructor(node: NodeView, image: CowImage) {
    this.#node = node;
    this.#image = image;
  }

  #fault(op: CowImage["faults"][number]["op"], offset = 0, bytes = 0): void {
    const { faults } = this.#image;
    const at = faults.findIndex(
      ({ op: failing, cluster }) =>
        failing === op &&
        (cluster === undefined ||
          (offset < (cluster + 1) * clusterBytes && cluster * clusterBytes < offset + bytes)),
    );
    if (at < 0) return;
    const fault = faults[at]!;
    if (fault.once) faults.splice(at, 1);
    throw new BlockError({ code: fault.code, op });
  }

  length(): number {
    return this.#image.size;
  }

  getInfo(): { clusterSize: number } {
    return { clusterSize: clusterBytes };
  }

  limits(): { requestAlignment: number } {
    return { requestAlignment: 512 };
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.#fault("read", offset, buffer.byteLength);
    for (let at = 0; at < buffer.byteLength;) {
      const { index, inside, bytes } = piece(offset + at, buffer.byteLength - at);
      const part = buffer.subarray(at, at + bytes);
      const cluster = this.#image.clusters.get(index);
      if (cluster) part.set(cluster.subarray(inside, inside + bytes));
      else if (this.#node.backing) await this.#node.backing.pread(offset + at, part);
      else part.fill(0);
      at += bytes;
    }
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.#fault("write", offset, buffer.byteLength);
    this.#image.log.push("write");
    for (let at = 0; at < buffer.byteLength;) {
      const { index, inside, bytes } = piece(offset + at, buffer.byteLength - at);
      const cluster = await this.#own(index);
      cluster.set(buffer.subarray(at, at + bytes), inside);
      at += bytes;
    }
  }

  async #own(index: number): Promise<Uint8Array> {
    const have = this.#image.clusters.get(index);
    if (have) return have;
    const cluster = new Uint8Array(clusterBytes);
    const { backing } = this.#node;
    if (backing) await backing.pread(index * clusterBytes, cluster);
    this.#image.clusters.set(index, cluster);
    return cluster;
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    this.#fault("status");
    const first = piece(offset, bytes);
    const allocated = this.#image.clusters.has(first.index);
    let reach = first.bytes;
    while (reach < bytes && this.#image.clusters.has(piece(offset + reach, 1).index) === allocated)
      reach += piece(offset + reach, bytes - reach).bytes;
    return Promise.resolve({ bytes: reach, data: allocated, zero: false, allocated });
  }

  truncate(size: number): Promise<void> {
    this.#image.size = size;
    return Promise.resolve();
  }

  flush(): Promise<void> {
    this.#image.log.push("flush");
    return Promise.resolve();
  }

  setReadOnly(): Promise<void> {
    return Promise.resolve();
  }

  readonly headerBacking: HeaderBacking = {
    filename: () => this.#image.header?.filename,
    format: () => undefined,
    change: async (backing) => {
      this.#fault("header");
      this.#image.log.push("header");
      this.#image.header = backing;
    },
  };
}

function piece(offset: number, bytes: number): { index: number; inside: number; bytes: number } {
  const inside = offset % clusterBytes;
  return { index: (offset - inside) / clusterBytes, inside, bytes: Math.min(bytes, clusterBytes - inside) };
}

/** Opens the image made for the node's name. */
export const cow: DriverType = {
  name: "cow",
  kind: "format",
  supportsBacking: true,
  open(context) {
    const image = images.get(context.node.name);
    if (!image) throw new Error(`no image for '${context.node.name}'`);
    return Promise.resolve(new Cow(context.node, image));
  },
};
