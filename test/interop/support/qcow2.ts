// Opens qcow2 images with our own driver over real files, and runs qemu-img and qemu-io on them.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlockBackend } from "../../../src/block/graph/backend.ts";
import type { NodeSpec } from "../../../src/block/model/contract.ts";
import { fileGate } from "../../../src/block/model/gate.ts";
import { BlockGraph } from "../../../src/block/graph/graph.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../../src/drivers/format/qcow2/checked.ts";
import { raw } from "../../../src/drivers/format/raw.ts";
import { file } from "../../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { nodeHost } from "../../../src/platform/node/host.ts";

export { must, tool } from "../../support/tools.ts";

/** An open image and its engine. */
export interface OpenImage {
  readonly graph: BlockGraph;
  readonly disk: BlockBackend;
  close(): Promise<void>;
}

/** A graph over this machine's files, which opens what images name in their directory. */
export function fileGraph(io: "pool" | "in-turn" = "pool"): BlockGraph {
  const host = nodeHost({ io });
  const kernels = loadKernels({ arenaBytes: 2 ** 22 });
  const graph = new BlockGraph({ host, kernels, gate: fileGate("local", host) });
  graph.register(file, raw, qcow2);
  return graph;
}

/** Opens an image through the real graph; `options` go into the node's spec (`driver` too), `prepare` readies the graph. */
export async function openImage(
  path: string,
  options: Partial<NodeSpec> = {},
  prepare?: (graph: BlockGraph) => Promise<void> | void,
  io?: "pool" | "in-turn",
): Promise<OpenImage> {
  const graph = fileGraph(io);
  try {
    await prepare?.(graph);
    const spec = {
      driver: "qcow2",
      "node-name": "disk",
      file: { driver: "file", filename: path },
      ...options,
    };
    const node = await graph.add(spec);
    const disk = new BlockBackend(graph);
    const perm = options["read-only"] ? Perm.consistentRead : Perm.consistentRead | Perm.write | Perm.resize;
    await disk.attach(node, { perm, shared: Perm.all });
    const close = async (): Promise<void> => {
      await disk.close();
      await graph.close();
    };
    return { graph, disk, close };
  } catch (error) {
    await graph.close().catch(() => undefined);
    throw error;
  }
}

/** Reads a whole disk, 1 MiB at a time. */
export async function readDisk(image: OpenImage): Promise<Uint8Array> {
  const content = new Uint8Array(image.disk.length);
  for (let at = 0; at < content.length; at += 2 ** 20) {
    await image.disk.pread(at, content.subarray(at, Math.min(at + 2 ** 20, content.length)));
  }
  return content;
}

/** Makes a directory for one test and removes it afterwards. */
export async function inDirectory<T>(body: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "blockwright-qcow2-"));
  try {
    return await body(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
