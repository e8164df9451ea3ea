// Power cuts while dirty bitmaps record, change and are stored: whatever set of unflushed sectors is lost, at any instant, every
// bitmap that was there is there, consistent, and says all that was written since it began; those that are off stay as they are. Then
// the guest goes on from what was left, and the power fails again.
import { expect, test } from "vitest";
import { BlockBackend } from "../../src/block/graph/backend.ts";
import { BlockGraph } from "../../src/block/graph/graph.ts";
import { findDirtyBitmap } from "../../src/block/model/dirty-bitmap.ts";
import { Perm } from "../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../src/drivers/format/qcow2/checked.ts";
import type { Qcow2 } from "../../src/drivers/format/qcow2/index.ts";
import { memory } from "../../src/drivers/protocol/memory.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { randomness } from "../support/random.ts";
import { tally } from "../support/tally.ts";
import {
  BitmapStory,
  type Content,
  type Found,
  judgeBitmap,
  type Known,
  MOST_SECTORS,
  NAMES,
  SECTOR,
} from "./support/bitmap-story.ts";
import { Journal, journalType } from "./support/journal.ts";

const only = process.env["BITMAP_SEED"];
const SEEDS = Number(process.env["BITMAP_SEEDS"] ?? 12);
const seeds = only ? [Number(only)] : Array.from({ length: SEEDS }, (_, index) => index + 1);
const LIVES = 3;
const ACTS = 24;
const CUTS = 10;
const kernels = loadKernels({ arenaBytes: 2 ** 20 });

interface OpenDisk {
  graph: BlockGraph;
  disk: BlockBackend;
  driver: Qcow2;
}

async function emptyImage(clusterSize: number): Promise<Uint8Array> {
  const graph = new BlockGraph({ host: nodeHost(), kernels });
  graph.register(memory, qcow2);
  const node = await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  const options = { size: 2 ** 23, "cluster-size": clusterSize, file: "m" };
  await qcow2.create!({ graph, host: graph.host }, options);
  const bytes = new Uint8Array(node.length);
  await node.driver.pread(0, bytes, 0);
  await graph.close();
  return bytes;
}

async function open(journal: Journal, readOnly = false): Promise<OpenDisk> {
  const graph = new BlockGraph({ host: nodeHost(), kernels });
  graph.register(journalType(journal), qcow2);
  const file = { driver: "journal", "node-name": "file" };
  const spec = { driver: "qcow2", "node-name": "disk", backing: null, discard: "unmap" as const, file };
  const node = await graph.add({ ...spec, "read-only": readOnly, "cache-size": 2 ** 16 });
  const disk = new BlockBackend(graph);
  const perm = readOnly ? Perm.consistentRead : Perm.consistentRead | Perm.write | Perm.resize;
  await disk.attach(node, { perm, shared: Perm.all });
  return { graph, disk, driver: node.driver as Qcow2 };
}

async function close({ disk, graph }: OpenDisk): Promise<void> {
  await disk.close();
  await graph.close();
}

async function contentOf(disk: BlockBackend): Promise<Content> {
  const bytes = new Uint8Array(disk.length);
  await disk.pread(0, bytes);
  const words = new Int32Array(bytes.buffer);
  return Int32Array.from({ length: bytes.length / SECTOR }, (_, sector) => words[(sector * SECTOR) / 4]!);
}

function find(graph: BlockGraph, name: string): Found | undefined {
  const bitmap = findDirtyBitmap(graph.node("disk"), name);
  if (!bitmap) return undefined;
  return {
    inconsistent: bitmap.inconsistent,
    auto: bitmap.storedAuto,
    bits: bitmap.bitmap.serialize(),
    isDirty: (sector) => bitmap.bitmap.get(sector * SECTOR),
  };
}

/** Looks at what a cut left, and changes nothing. */
async function judge(
  story: BitmapStory,
  at: number,
  image: Uint8Array,
): Promise<{ content: Content; known: Map<string, Known> }> {
  const left = await open(new Journal(image, () => 0), true);
  const content = await contentOf(left.disk);
  const known = new Map<string, Known>();
  for (const [name, states] of story.known(at)) {
    try {
      const now = judgeBitmap(find(left.graph, name), states, content);
      if (now) known.set(name, now);
    } catch (error) {
      throw new Error(`cut at ${at}, bitmap '${name}': ${(error as Error).message}`, { cause: error });
    }
  }
  expect((await left.driver.check()).corruptions, `cut at ${at}`).toEqual([]);
  await close(left);
  return { content, known };
}

async function play(seed: number): Promise<void> {
  const random = randomness(seed);
  let image = await emptyImage([65536, 4096, 16384][seed % 3]!);
  let known = new Map<string, Known>();
  let content: Content = new Int32Array(MOST_SECTORS);
  let value = 1;
  for (let life = 0; life < LIVES; life++) {
    const journal = new Journal(image, random);
    const left = await open(journal);
    const story = new BitmapStory({ journal, ...left, content, known, value });
    for (let index = 0; index < ACTS; index++) await story.act();
    const last = new Map(NAMES.map((name) => [name, find(left.graph, name)?.bits]));
    await close(left);
    value = story.value;
    await expectClosed(journal, last);
    tally({ crashStates: CUTS });
    for (let cut = 0; cut < CUTS; cut++) {
      const at = cut % 2 === 0 ? journal.beforeFlush() : random(journal.now + 1);
      image = journal.crash(at, [0, 50, 90, 100, 20][random(5)]!);
      const found = await judge(story, at, image);
      ({ known } = found);
      content = new Int32Array(MOST_SECTORS);
      content.set(found.content);
    }
  }
}

/** After a proper end the bitmaps are what they were, and nothing is left of the journal. */
async function expectClosed(
  journal: Journal,
  last: ReadonlyMap<string, Uint8Array | undefined>,
): Promise<void> {
  const left = await open(new Journal(journal.crash(journal.now, 0), () => 0), true);
  for (const [name, bits] of last) expect(find(left.graph, name)?.bits, name).toEqual(bits);
  expect(left.driver.image.header.autoclear & 0x40000000n).toBe(0n);
  await close(left);
}

for (const seed of seeds) {
  test(`power cuts, seed ${seed}`, async () => {
    try {
      await play(seed);
    } catch (error) {
      console.error(
        `replay: BITMAP_SEED=${seed} npx vitest run --project crash test/crash/bitmap-powercut.test.ts`,
      );
      throw error;
    }
  });
}
