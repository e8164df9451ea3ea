// An image in memory, through the real graph: `m` is its file, `q` the image, `d` the data file where it has one.
import type { ImageCheck } from "../../../../../src/block/model/contract.ts";
import type { BlockNode, Child } from "../../../../../src/block/model/node.ts";
import { Perm } from "../../../../../src/block/model/permissions.ts";
import { checkedQcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import { type Header, parseHeader } from "../../../../../src/drivers/format/qcow2/disk/header.ts";
import { MiB, TestGraph } from "../../../support/graph.ts";

/** The image, opened. */
export interface ImageBench {
  readonly bench: TestGraph;
  readonly node: BlockNode;
  readonly edge: Child;
}

/** Makes an image of 8 MiB where nothing else is said, and opens it. */
export async function imageBench(
  options: Record<string, unknown> = {},
  spec: Record<string, unknown> = {},
): Promise<ImageBench> {
  const bench = new TestGraph();
  const { graph, host } = bench;
  graph.register(checkedQcow2);
  await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  const dataFile = options["data-file"] === undefined ? {} : { "data-file": "d" };
  if (options["data-file"] !== undefined) await bench.disk("d", 0);
  await checkedQcow2.create!({ graph, host }, { size: 8 * MiB, ...options, file: "m" });
  const whole = { driver: "qcow2", "node-name": "q", file: "m", ...dataFile, ...spec };
  const node = await graph.add({ ...whole, discard: "unmap" });
  const edge = await bench.edge(node, Perm.consistentRead | Perm.write | Perm.resize);
  return { bench, node, edge };
}

/** The header as the file has it. */
export async function headerOf({ bench }: ImageBench): Promise<Header> {
  return parseHeader(await bench.content("m", 0, 65_536));
}

/** What a check of the closed image finds; the image is closed for it. */
export async function checkClosed({ bench, edge }: ImageBench): Promise<ImageCheck & { words: string[] }> {
  const { graph, host } = bench;
  await graph.detach(edge);
  await graph.remove("q");
  const words: string[] = [];
  const request = {
    file: "m",
    fix: { leaks: false, errors: false },
    message: (text: string) => words.push(text),
  };
  return { ...(await checkedQcow2.check({ graph, host }, request)), words };
}

/** The disk's bytes. */
export async function read({ edge }: ImageBench, offset: number, bytes: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes).fill(0x55);
  await edge.pread(offset, buffer);
  return buffer;
}
