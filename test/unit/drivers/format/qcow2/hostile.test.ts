// Mutated images: opening, reading, writing, checking and closing end, with success or a BlockError, and the file stays
// within bounds. A failing seed is in the test's message.
import { expect, test } from "vitest";
import { BlockError, CommandError } from "../../../../../src/base/errors.ts";
import { Req } from "../../../../../src/block/driver.ts";
import { checkedQcow2 as qcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import type { Qcow2 } from "../../../../../src/drivers/format/qcow2/index.ts";
import { TestGraph } from "../../../support/graph.ts";

const KiB = 1024;
const SIZE = 256 * KiB;

function randomness(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

async function template(clusterSize: number, extended: boolean): Promise<Uint8Array> {
  const bench = new TestGraph();
  bench.graph.register(qcow2);
  await bench.graph.add({ driver: "memory", "node-name": "m", size: 0 });
  const context = { graph: bench.graph, host: bench.host };
  await qcow2.create!(context, {
    size: SIZE,
    "cluster-size": clusterSize,
    "extended-l2": extended,
    file: "m",
  });
  const node = await bench.graph.add({ driver: "qcow2", "node-name": "q", file: "m" });
  const edge = await bench.edge(node);
  await edge.pwrite(1000, new Uint8Array(100 * KiB).fill(1));
  await edge.pwriteZeroes(8 * KiB, 16 * KiB);
  await (node.driver as Qcow2).snapshots()!.create({ name: "one" });
  await edge.pwrite(5000, new Uint8Array(10 * KiB).fill(3));
  await bench.graph.detach(edge);
  await bench.graph.remove("q");
  return bench.content("m");
}

/** Where the header says that its tables lie, so that mutations hit structure and not only data. */
function targets(image: Uint8Array): number[] {
  const view = new DataView(image.buffer);
  const l1 = view.getUint32(44);
  const table = view.getUint32(52);
  const snapshots = view.getUint32(68);
  return [
    0,
    8,
    20,
    24,
    32,
    36,
    40,
    48,
    56,
    60,
    64,
    72,
    96,
    100,
    112,
    l1,
    snapshots,
    snapshots + 8,
    snapshots + 36,
    view.getUint32(snapshots + 4),
    view.getUint32(l1 + 4),
    table,
    view.getUint32(table + 4),
  ];
}

function mutate(image: Uint8Array, random: (limit: number) => number): Uint8Array {
  const copy = image.slice(0, random(8) === 0 ? random(image.length) : image.length);
  for (let count = 1 + random(4); count > 0; count--) {
    const places = targets(image);
    const at = places[random(places.length)]! + random(16);
    if (at < copy.length) copy[at] = [0, 1, 0x40, 0x80, 0xff, random(256)][random(6)]!;
  }
  return copy;
}

async function survive(step: () => Promise<unknown>): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (!(error instanceof BlockError || error instanceof CommandError)) throw error;
  }
}

/** True: the image opened. */
async function play(image: Uint8Array): Promise<boolean> {
  const bench = new TestGraph(64 * KiB);
  bench.graph.register(qcow2);
  const file = await bench.graph.add({ driver: "memory", "node-name": "m", size: image.length });
  if (image.length > 0) await file.driver.pwrite!(0, image, 0);
  let opened = false;
  await survive(async () => {
    const node = await bench.graph.add({
      driver: "qcow2",
      "node-name": "q",
      file: "m",
      backing: null,
      discard: "unmap",
    });
    opened = true;
    const edge = await bench.edge(node);
    const bytes = Math.min(node.length, SIZE);
    await survive(() => edge.pread(0, new Uint8Array(bytes)));
    await survive(() => edge.blockStatus(0, Math.max(bytes, 1)));
    await survive(() => edge.pwrite(0, new Uint8Array(Math.min(bytes, 20 * KiB)).fill(2)));
    await survive(() => edge.pwriteZeroes(0, Math.min(bytes, 64 * KiB), Req.mayUnmap));
    await survive(() => edge.flush());
    await survive(() => (node.driver as Qcow2).check());
    const snapshots = (node.driver as Qcow2).snapshots()!;
    await survive(() => snapshots.create({ name: "two" }));
    await survive(() => snapshots.apply("1"));
    await survive(() => snapshots.remove("1"));
    await survive(() => bench.graph.detach(edge));
  });
  await survive(() => bench.graph.close());
  expect(file.length).toBeLessThan(2 ** 53);
  return opened;
}

for (const [clusterSize, extended] of [
  [512, false],
  [4096, false],
  [65536, false],
  [16384, true],
] as const) {
  const what = `clusters of ${clusterSize}${extended ? " and subclusters" : ""}`;
  test(`mutated images with ${what} are survived`, { timeout: 60_000 }, async () => {
    const image = await template(clusterSize, extended);
    let opened = 0;
    for (let seed = 1; seed <= 250; seed++) {
      const broken = mutate(image, randomness(seed * 31 + clusterSize));
      const survived = await play(broken).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
      });
      if (survived) opened += 1;
    }
    // The mutations reach past the header's checks, and those refuse some.
    expect(opened).toBeGreaterThan(25);
    expect(opened).toBeLessThan(225);
  });
}
