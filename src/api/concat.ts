/**
 * Several disks as one, end to end: what convert() copies of several sources. Each starts where the one before it ends, at
 * a multiple of 512 bytes; what is missing to that reads as zeroes. Read only, and its disks must keep their lengths.
 * Source: behaviour of qemu-img convert 7.2 with several sources.
 */
import { closing } from "../base/lease.ts";
import { type BlockBackend, readerPermissions } from "../block/graph/backend.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import { type BlockNode, nodeOf } from "../block/model/node.ts";
import { SECTOR_SIZE } from "../base/limits.ts";
import { alignUp } from "../base/ranges.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type DriverType,
  type Edge,
  Role,
} from "../block/model/contract.ts";
import { blockStatusAbove } from "../block/io/status.ts";

interface Part {
  child: Edge;
  start: number;
  end: number;
}

class Concat implements BlockDriver {
  readonly #parts: readonly Part[];

  constructor(children: readonly Edge[]) {
    let at = 0;
    this.#parts = children.map((child) => {
      const start = at;
      at += alignUp(child.length, SECTOR_SIZE);
      return { child, start, end: at };
    });
  }

  length(): number {
    return this.#parts.at(-1)?.end ?? 0;
  }

  async pread(offset: number, buffer: Uint8Array, flags: number): Promise<void> {
    const end = offset + buffer.byteLength;
    for (const part of this.#parts) {
      const from = Math.max(offset, part.start);
      const to = Math.min(end, part.end);
      // Beyond the end of a disk that is no multiple of sectors there are zeroes.
      if (from < to)
        await part.child.pread(from - part.start, buffer.subarray(from - offset, to - offset), flags);
    }
  }

  async blockStatus(offset: number, bytes: number, wantZero: boolean): Promise<BlockStatus> {
    const part = this.#parts.find(({ end }) => offset < end)!;
    const wanted = Math.min(bytes, part.end - offset);
    const status = await blockStatusAbove(nodeOf(part.child.node), offset - part.start, wanted, { wantZero });
    const left = part.child.length - (offset - part.start);
    const atEnd = left > 0 && status.bytes >= left;
    const reach = atEnd ? wanted : status.bytes;
    return { bytes: reach, data: status.data, zero: status.zero, allocated: true };
  }
}

/** Only convert() opens it; QAPI does not offer it. Option: `disks`, names of open nodes. */
const concat: DriverType = {
  name: "concat",
  kind: "format",
  isLibraryOnly: true,
  async open(context, spec) {
    const children: Edge[] = [];
    for (const [index, name] of (spec["disks"] as readonly string[]).entries())
      children.push(await context.openChild(name, `disk${index}`, Role.data));
    return new Concat(children);
  },
};

/** Attaches `backend` to the disk of `sources`, or to all of them as one. */
export async function attachSources(
  backend: BlockBackend,
  graph: BlockGraph,
  sources: readonly { readonly blockNode: BlockNode }[],
): Promise<void> {
  const [only] = sources;
  if (only && sources.length === 1) return backend.attach(only.blockNode, readerPermissions);
  graph.register(concat);
  const disks = sources.map(({ blockNode }) => blockNode.name);
  const node = await graph.open({ driver: concat.name, disks, "read-only": true });
  await closing(
    () => backend.attach(node, readerPermissions),
    () => graph.release(node),
  );
}
