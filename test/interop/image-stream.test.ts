// Exported streams against qemu-img: the images are whole (check finds no error and no leak), and hold what the disk held.
import { createWriteStream, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type Engine,
  type ImageStreamOptions,
  type Node,
  createEngine,
  imageStream,
  openNode,
} from "../../src/node.ts";
import { randomness } from "../support/random.ts";
import { checkFaults, must } from "../support/tools.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

let folder: string;
let engine: Engine;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-export-"));
  engine = createEngine();
});

afterAll(async () => {
  await engine.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Half of it compresses, a part is zeroes, the rest is noise. */
function content(bytes: number, seed: number): Uint8Array {
  const next = randomness(seed);
  const data = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += 4096) {
    const kind = next(4);
    const block = data.subarray(at, at + 4096);
    if (kind === 1) for (let n = 0; n < block.length; n++) block[n] = next(256);
    else if (kind > 1) block.fill(1 + next(200));
  }
  return data;
}

async function exported(node: Node, options: ImageStreamOptions): Promise<string> {
  const path = join(folder, "out");
  const stream = await imageStream(node, options);
  await pipeline(Readable.fromWeb(stream as never), createWriteStream(path));
  return path;
}

/** A disk of `size` bytes with content at some places, and the same as a raw file. */
async function disk(
  size: number,
  pieces: readonly (readonly [offset: number, bytes: number])[],
): Promise<Node> {
  const node = await openNode({ driver: "memory", size, discard: "unmap" }, { engine });
  for (const [index, [offset, bytes]] of pieces.entries())
    await node.write(offset, content(bytes, index + size));
  return node;
}

async function checked(path: string): Promise<void> {
  expect(await checkFaults(path, "refused")).toBeUndefined();
}

const shapes: [name: string, size: number, pieces: [number, number][]][] = [
  ["an empty disk", MiB, []],
  ["one sector", 512, [[0, 512]]],
  ["a length that is no cluster", 3 * MiB + 512, [[0, 3 * MiB + 512]]],
  [
    "islands in a large disk",
    5 * 1024 * MiB,
    [
      [64 * KiB, 300 * KiB],
      [2100 * MiB + 512, 5 * MiB],
      [5 * 1024 * MiB - 1024, 1024],
    ],
  ],
  ["40 MiB", 40 * MiB, [[0, 40 * MiB]]],
];

const manners: [name: string, options: ImageStreamOptions][] = [
  ["plain", { format: "qcow2" }],
  ["compressed", { format: "qcow2", compress: true }],
  ["compressed, 2 MiB clusters", { format: "qcow2", compress: true, clusterBytes: 2 * MiB }],
];

describe.each(shapes)("%s", (_name, size, pieces) => {
  it.each(manners)("as qcow2, %s", async (_manner, options) => {
    await using node = await disk(size, pieces);
    const told: number[][] = [];
    const path = await exported(node, { ...options, onProgress: (...progress) => told.push(progress) });
    await checked(path);
    expect(told.at(-1)![0]).toBe(told.at(-1)![1]);
    await using back = await openNode(
      { driver: "qcow2", "read-only": true, file: { driver: "file", filename: path } },
      { engine },
    );
    expect(back.length).toBe(size);
    for (const [offset, bytes] of pieces) {
      expect(Buffer.compare(await back.read(offset, bytes), await node.read(offset, bytes))).toBe(0);
    }
    if (size > 100 * MiB) return;
    const raw = join(folder, "raw");
    writeFileSync(raw, await node.read(0, size));
    expect(await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path)).toContain("identical");
  });
});

describe("an export", () => {
  it("with clusters of 512 bytes is whole, over many tables", async () => {
    await using node = await disk(6 * MiB, [
      [0, MiB],
      [2 * MiB + 1024, 700 * KiB],
      [5 * MiB, 512],
    ]);
    await checked(await exported(node, { format: "qcow2", clusterBytes: 512 }));
    const path = await exported(node, { format: "qcow2", clusterBytes: 512, compress: true });
    await checked(path);
    const raw = join(folder, "raw");
    writeFileSync(raw, await node.read(0, node.length));
    expect(await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path)).toContain("identical");
  });

  it("takes no more room than qemu-img's, compressed", async () => {
    await using node = await disk(20 * MiB, [[0, 20 * MiB]]);
    const path = await exported(node, { format: "qcow2", compress: true });
    const raw = join(folder, "raw");
    const theirs = join(folder, "theirs");
    writeFileSync(raw, await node.read(0, node.length));
    await must("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, theirs);
    expect(statSync(path).size).toBeLessThan(statSync(theirs).size * 1.05 + 256 * KiB);
  });
});
