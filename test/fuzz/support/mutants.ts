/**
 * Mutated qcow2 images: one is damaged, used and repaired as its seed says. Whatever happens to it ends, with success or an error of images; nothing
 * takes memory that the image merely claims to need, or opens a file that nobody named.
 */
import assert from "node:assert/strict";
import { BlockError, CommandError } from "../../../src/base/errors.ts";
import { MiB } from "../../../src/base/limits.ts";
import type { BlockNode, Child, ChildParent } from "../../../src/block/model/node.ts";
import { type DriverType, Req } from "../../../src/block/model/contract.ts";
import { BlockGraph } from "../../../src/block/graph/graph.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { checkedQcow2 } from "../../../src/drivers/format/qcow2/checked.ts";
import type { Qcow2 } from "../../../src/drivers/format/qcow2/index.ts";
import { raw } from "../../../src/drivers/format/raw.ts";
import { memory } from "../../../src/drivers/protocol/memory.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { nodeHost } from "../../../src/platform/node/host.ts";
import { damagedCopy } from "../../support/qcow2-damage.ts";
import { randomness } from "../../support/random.ts";
import { DISK_BYTES, type Template } from "./templates.ts";

const KiB = 1024;
/** An image of some hundred KiB may cost this much: caches, counters, and what the collector has not taken yet. */
const MOST_BYTES = 384 * MiB;

type Random = (limit: number) => number;

const kernels = loadKernels({ arenaBytes: MiB });
const parent: ChildParent = {
  describe: () => "the fuzzer",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};

/** Bytes at random places of the header and the tables, on top of what the structure suggests. */
function mutate({ image, places }: Template, random: Random): Buffer {
  const { image: broken } = damagedCopy(image, places, random);
  const tables = [0, 8, 100, 112, ...places.l2Tables, places.l1[0]!, places.refcountTable[0]!];
  for (let left = random(4); left > 0; left--) {
    const at = tables[random(tables.length)]! + random(24);
    if (at < broken.length) broken[at] = [0, 1, 0x40, 0x80, 0xff, random(256)][random(6)]!;
  }
  return broken;
}

/** Runs a step; errors of images are fine. */
async function survive(step: () => Promise<unknown>): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (!(error instanceof BlockError || error instanceof CommandError)) throw error;
  }
}

/** A graph with the image in memory, which counts what is opened beside it and how much memory there is. */
class Bench {
  readonly opened: string[] = [];
  readonly graph: BlockGraph;
  peakBytes = 0;

  constructor() {
    const host = nodeHost();
    this.graph = new BlockGraph({ host, kernels });
    const file: DriverType = {
      name: "file",
      kind: "protocol",
      open: (_context, spec) => {
        this.opened.push(String(spec["filename"]));
        throw new BlockError({ code: "ENOENT", op: "open" });
      },
    };
    this.graph.register(memory, raw, checkedQcow2, file);
  }

  async load(image: Buffer): Promise<BlockNode> {
    const node = await this.graph.add({ driver: "memory", "node-name": "m", size: image.length });
    if (image.length > 0) await node.driver.pwrite!(0, image, 0);
    const { driver } = node;
    const pread = driver.pread.bind(driver);
    driver.pread = (offset, buffer, flags) => {
      this.peakBytes = Math.max(this.peakBytes, process.memoryUsage().arrayBuffers);
      return pread(offset, buffer, flags);
    };
    return node;
  }

  edge(node: BlockNode): Promise<Child> {
    const perm = Perm.consistentRead | Perm.write | Perm.resize;
    return this.graph.attach(parent, node, { name: "fuzz", perm, shared: Perm.all });
  }
}

/** Everything that a user may do with an image, in an order of the seed's own. */
async function use(bench: Bench, random: Random): Promise<void> {
  const { graph } = bench;
  const more = random(2) ? { backing: null } : {};
  const node = await graph.add({ driver: "qcow2", "node-name": "q", file: "m", discard: "unmap", ...more });
  const edge = await bench.edge(node);
  const bytes = Math.min(node.length, DISK_BYTES);
  const snapshots = (node.driver as Qcow2).snapshots()!;
  const at = random(Math.max(1, bytes / 512)) * 512;
  const part = Math.min(bytes - at, 20 * KiB);
  const steps = [
    () => edge.pread(0, new Uint8Array(bytes)),
    () => edge.blockStatus(at, Math.max(node.length - at, 1)),
    () => edge.pwrite(at, new Uint8Array(Math.max(part, 0)).fill(2)),
    () => edge.pwriteZeroes(at, Math.max(part, 0), random(2) ? Req.mayUnmap : 0),
    () => edge.pdiscard(0, bytes),
    () => edge.pwrite(0, new Uint8Array(Math.min(bytes, 64 * KiB)).fill(5), Req.compressed),
    () => edge.truncate(512 * random(2000), { exact: true, preallocation: random(3) ? "off" : "metadata" }),
    () => edge.flush(),
    () => (node.driver as Qcow2).check(),
    () => snapshots.create({ name: "two" }),
    () => snapshots.apply("1"),
    () => snapshots.remove("1"),
  ];
  for (let count = 0; count < 7; count++) {
    const step = steps[random(steps.length)]!;
    await survive(async () => {
      await step();
    });
  }
  await survive(() => graph.detach(edge));
  await survive(() => graph.remove("q"));
}

async function check(bench: Bench, fix: { leaks: boolean; errors: boolean }): Promise<void> {
  const context = { graph: bench.graph, host: bench.graph.host };
  await survive(() => checkedQcow2.check(context, { file: "m", fix, message: () => undefined }));
}

/** Plays one seed; resolves with whether the image opened. */
export async function playMutant(templates: readonly Template[], seed: number): Promise<boolean> {
  const random = randomness(seed);
  const bench = new Bench();
  const file = await bench.load(mutate(templates[seed % templates.length]!, random));
  let opened = false;
  const repairsFirst = random(2) === 1;
  if (repairsFirst) await check(bench, { leaks: true, errors: random(2) === 1 });
  await survive(async () => {
    await use(bench, random);
    opened = true;
  });
  await check(bench, { leaks: false, errors: false });
  if (!repairsFirst) await check(bench, { leaks: true, errors: true });
  await survive(() => bench.graph.close());
  assert.deepEqual(bench.opened, [], "files that nobody named");
  assert.ok(bench.peakBytes < MOST_BYTES, `${bench.peakBytes} bytes of memory`);
  assert.ok(file.length < 2 ** 53);
  return opened;
}
