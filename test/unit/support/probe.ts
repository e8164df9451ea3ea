// A protocol driver for tests: a disk in memory that writes down every hook's call, and lets the test hold it back or
// fail it. Limits are the test's.
import { nodeOf } from "../../../src/block/model/node.ts";
import type {
  BlockDriver,
  BlockLimits,
  BlockStatus,
  DriverType,
  NodeSpec,
  RequestFlags,
} from "../../../src/block/model/contract.ts";
import type { BlockGraph } from "../../../src/block/graph/graph.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";

/** One call of a hook. */
export interface ProbeCall {
  op:
    | "pread"
    | "pwrite"
    | "pwriteZeroes"
    | "pdiscard"
    | "flush"
    | "truncate"
    | "writeBack"
    | "close"
    | "event";
  offset: number;
  bytes: number;
  flags: RequestFlags;
  event?: string;
}

export class ProbeDriver implements BlockDriver {
  bytes: Uint8Array;
  readonly calls: ProbeCall[] = [];
  /** Runs before the hook does its work; may wait, and may throw. */
  before: ((call: ProbeCall) => Promise<void> | void) | undefined;
  readonly own: Partial<BlockLimits>;
  /** The optional hooks; a test removes what its driver shall not have. */
  pwriteZeroes?: NonNullable<BlockDriver["pwriteZeroes"]>;
  pdiscard?: NonNullable<BlockDriver["pdiscard"]>;
  debugEvent?: NonNullable<BlockDriver["debugEvent"]>;

  constructor(size: number, limits: Partial<BlockLimits>) {
    this.bytes = new Uint8Array(size);
    this.own = limits;
    this.pwriteZeroes = async (offset, bytes, flags) => {
      await this.#call({ op: "pwriteZeroes", offset, bytes, flags });
      this.#grow(offset + bytes);
      this.bytes.fill(0, offset, offset + bytes);
    };
    this.pdiscard = async (offset, bytes) => {
      await this.#call({ op: "pdiscard", offset, bytes, flags: 0 });
      this.bytes.fill(0, offset, offset + bytes);
    };
  }

  /** The calls since the last look, as `pwrite 0+512`; flags follow a colon if there are any. */
  take(): string[] {
    return this.calls.splice(0).map(({ op, offset, bytes, flags, event }) => {
      if (op === "event") return event ?? "";
      if (op === "flush" || op === "writeBack" || op === "close") return op;
      return `${op} ${offset}+${bytes}${flags === 0 ? "" : `:${flags}`}`;
    });
  }

  /** Also records the events of blkdebug that the layer fires. */
  recordEvents(): void {
    this.debugEvent = (event) => {
      this.calls.push({ op: "event", offset: 0, bytes: 0, flags: 0, event });
      return undefined;
    };
  }

  async #call(call: ProbeCall): Promise<void> {
    this.calls.push(call);
    await this.before?.(call);
  }

  #grow(end: number): void {
    if (end <= this.bytes.byteLength) return;
    const grown = new Uint8Array(end);
    grown.set(this.bytes);
    this.bytes = grown;
  }

  length(): number {
    return this.bytes.byteLength;
  }

  limits(): Partial<BlockLimits> {
    return this.own;
  }

  async pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    await this.#call({ op: "pread", offset, bytes: buffer.byteLength, flags });
    buffer.fill(0);
    buffer.set(this.bytes.subarray(offset, offset + buffer.byteLength));
  }

  async pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    // As if the disk took the bytes when the request came: whoever overlaps must have waited.
    const copy = buffer.slice();
    await this.#call({ op: "pwrite", offset, bytes: buffer.byteLength, flags });
    this.#grow(offset + buffer.byteLength);
    this.bytes.set(copy, offset);
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    return Promise.resolve({
      bytes,
      data: true,
      zero: false,
      allocated: true,
      map: { node: this.node, offset },
    });
  }

  async flush(): Promise<void> {
    await this.#call({ op: "flush", offset: 0, bytes: 0, flags: 0 });
  }

  async truncate(size: number): Promise<void> {
    await this.#call({ op: "truncate", offset: size, bytes: 0, flags: 0 });
    if (size > this.bytes.byteLength) this.#grow(size);
    else this.bytes = this.bytes.slice(0, size);
  }

  async close(): Promise<void> {
    await this.#call({ op: "close", offset: 0, bytes: 0, flags: 0 });
  }

  node!: BlockNode;
}

/** Options: `size`, `limits`. */
const probeType: DriverType = {
  name: "probe",
  kind: "protocol",
  open({ node }, spec) {
    const driver = new ProbeDriver(spec["size"] as number, spec["limits"] ?? {});
    driver.node = nodeOf(node);
    return Promise.resolve(driver);
  },
};

/** Adds a probe node. */
export async function addProbe(
  graph: BlockGraph,
  spec: Omit<NodeSpec, "driver"> & { size: number; limits?: Partial<BlockLimits> },
): Promise<{ node: BlockNode; driver: ProbeDriver }> {
  graph.register(probeType);
  const node = await graph.add({ ...spec, driver: "probe" });
  return { node, driver: node.driver as ProbeDriver };
}
