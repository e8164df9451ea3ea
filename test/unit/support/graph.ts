// A block graph over memory nodes, for tests.
import type { Child, ChildParent } from "../../../src/block/model/node.ts";
import { BlockGraph } from "../../../src/block/graph/graph.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { blkdebug } from "../../../src/drivers/filter/blkdebug.ts";
import { copyBeforeWrite } from "../../../src/drivers/filter/copy-before-write.ts";
import { snapshotAccess } from "../../../src/drivers/filter/snapshot-access.ts";
import { raw } from "../../../src/drivers/format/raw.ts";
import { memory } from "../../../src/drivers/protocol/memory.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { VirtualHost } from "./virtual-host.ts";

const parent: ChildParent = {
  describe: () => "the test",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};

export const KiB = 1024;
export const MiB = 1024 * KiB;

/** A graph with the drivers memory, raw, blkdebug and copy-before-write, and its host. */
export class TestGraph {
  readonly host = new VirtualHost();
  readonly graph: BlockGraph;

  constructor(arenaBytes = 16 * MiB, options: { strictErrorPolicy?: boolean } = {}) {
    this.graph = new BlockGraph({ host: this.host, kernels: loadKernels({ arenaBytes }), ...options });
    this.graph.register(memory, raw, blkdebug, copyBeforeWrite, snapshotAccess);
  }

  /** An edge with all permissions that a test may want. */
  edge(node: BlockNode | string, perm: number = Perm.consistentRead | Perm.write): Promise<Child> {
    const to = typeof node === "string" ? this.graph.node(node) : node;
    return this.graph.attach(parent, to, { name: "test", perm, shared: Perm.all });
  }

  /** Adds a memory node of `size` bytes; `faults` puts a blkdebug with these inject-error rules above it. */
  async disk(name: string, size: number, faults?: readonly Record<string, unknown>[]): Promise<BlockNode> {
    if (!faults) return this.graph.add({ driver: "memory", "node-name": name, size, discard: "unmap" });
    await this.graph.add({ driver: "memory", "node-name": `${name}-memory`, size, discard: "unmap" });
    const image = { driver: "blkdebug", "node-name": name, image: `${name}-memory`, "inject-error": faults };
    return this.graph.add(image);
  }

  /** The content of a range, read without any fault rules of the node. */
  async content(name: string, offset = 0, bytes?: number): Promise<Uint8Array> {
    const node = this.graph.findNode(`${name}-memory`) ?? this.graph.node(name);
    const buffer = new Uint8Array(bytes ?? node.length - offset);
    await node.driver.pread(offset, buffer, 0);
    return buffer;
  }

  /** Where the contents of two nodes differ first; -1 where they are the same in the first `bytes` (default: all of `a`). */
  async difference(a: string, b: string, bytes?: number): Promise<number> {
    const one = await this.content(a, 0, bytes);
    return this.graph.kernels.firstDifference(one, await this.content(b, 0, one.byteLength));
  }

  /** Writes a range below any fault rules of the node. */
  async fill(name: string, offset: number, bytes: number, value = 0xa5): Promise<void> {
    const node = this.graph.findNode(`${name}-memory`) ?? this.graph.node(name);
    await node.driver.pwrite!(offset, pattern(bytes, value), 0);
  }
}

/** Whether two byte strings are equal; much faster than a matcher, which looks at each byte. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i]);
}

/** Bytes that differ from block to block and from value to value. */
export function pattern(bytes: number, value: number): Uint8Array {
  const buffer = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) buffer[i] = (value + (i >>> 9)) & 0xff;
  return buffer;
}
