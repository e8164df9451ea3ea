// Faults that are planted in drivers, qcow2 above all: each trips an assert, which names what does not hold.
import { createEngine, createImage, openNode } from "../../../src/browser.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { quorum } from "../../../src/drivers/filter/quorum.ts";
import { finish } from "../../../src/drivers/format/qcow2/data/link.ts";
import { discardFully } from "../../../src/drivers/format/qcow2/data/zeroes-discard.ts";
import type { Qcow2 } from "../../../src/drivers/format/qcow2/index.ts";
import { allocate, free, reserveTable } from "../../../src/drivers/format/qcow2/metadata/allocate.ts";
import { type Image, Readers } from "../../../src/drivers/format/qcow2/metadata/image.ts";
import { loadL1Slot, writableSlice } from "../../../src/drivers/format/qcow2/metadata/mapping.ts";
import { MetadataCache } from "../../../src/drivers/format/qcow2/metadata/metadata-cache.ts";
import {
  forgetBlock,
  freeWithin,
  setBlockOffset,
} from "../../../src/drivers/format/qcow2/metadata/refcounts.ts";
import { writeBackLocked } from "../../../src/drivers/format/qcow2/metadata/write-back.ts";
import { KiB, MiB, TestGraph } from "../support/graph.ts";
import { type PlantedFaults, testPlantedFaults } from "../support/planted-faults.ts";

const CLUSTER = 64 * KiB;

async function opened(): Promise<{ image: Image; node: BlockNode }> {
  const engine = createEngine({ arenaBytes: 24 * MiB });
  await openNode({ driver: "memory", size: 0, "node-name": "file" }, { engine });
  await createImage({ driver: "qcow2", file: "file", size: 4 * MiB }, { engine });
  const open = await openNode({ driver: "qcow2", file: "file", "node-name": "image" }, { engine });
  await open.write(0, new Uint8Array(2 * CLUSTER).fill(1));
  await open.flush();
  const node = engine.graph.node("image");
  return { node, image: (node.driver as Qcow2).image };
}

function cache(): MetadataCache {
  const read = (_offset: number, bytes: Uint8Array): void => void bytes.fill(0);
  return new MetadataCache({ tableBytes: 4096, maxTables: 4, read, write: () => undefined });
}

const under = (fault: (image: Image) => unknown) => async (): Promise<unknown> => {
  const { image } = await opened();
  return image.locked(async () => {
    await fault(image);
  });
};

async function aQuorum(): Promise<BlockNode> {
  const { graph } = new TestGraph();
  graph.register(quorum);
  const children = ["a", "b"].map((name) => ({ driver: "memory", size: MiB, "node-name": name }));
  return graph.add({ driver: "quorum", "vote-threshold": 1, children, "node-name": "q" });
}

const faults: PlantedFaults = {
  "a table is made over the header": ["a table begins at its unit", () => cache().create(0)],
  "a table is made within another": ["a table begins at its unit", () => cache().create(4096 + 512)],
  "a dropped table is changed": [
    "a dropped table was changed",
    () => {
      const tables = cache();
      const table = tables.create(4096);
      tables.drop(4096, 4096);
      tables.markDirty(table, 0, 8);
    },
  ],
  "a change leaves its table": [
    "a change lies outside of its table",
    () => {
      const tables = cache();
      tables.markDirty(tables.create(4096), 4090, 4098);
    },
  ],
  "a table counts as changed that is not": [
    "what is written back has changed",
    async () => {
      const tables = cache();
      Object.assign(tables.create(4096), { dirtyFrom: 0, dirtyTo: 0 });
      await tables.writeDirty();
    },
  ],
  "a read ends that did not begin": ["more reads ended than began", () => new Readers().end(0)],
  "metadata is written without the lock": [
    "under the lock",
    async () => writeBackLocked((await opened()).image),
  ],
  "tables are written before their counts": [
    "tables are written before the counts",
    under(async (image) => {
      await writableSlice(image, 0);
      const slice = await image.l2.load([...(await tablesOf(image))][0]!);
      image.l2.markDirty(slice, 0, 8);
      image.refcountBlocks.writeDirty = () => Promise.resolve();
      image.refcountBlocks.create(100 * CLUSTER);
      await writeBackLocked(image);
    }),
  ],
  "no cluster is allocated": ["no cluster was asked for", under((image) => allocate(image, 0))],
  "no cluster is freed": [
    "an empty run was freed",
    under((image) => free(image, { cluster: 1, count: 0 }, "other")),
  ],
  "a table is reserved over the header": [
    "a table lies on a cluster",
    under((image) => reserveTable(image, 0)),
  ],
  "a refcount block lies within a cluster": [
    "lies on no cluster",
    under((image) => setBlockOffset(image, 0, CLUSTER + 512)),
  ],
  "the first refcount block goes": ["the first block stays", under((image) => forgetBlock(image, 0))],
  "a refcount block behind the table": [
    "a block within the refcount table",
    under((image) => setBlockOffset(image, 1 << 20, CLUSTER)),
  ],
  "refcounts of nothing": [
    "an empty range has no refcounts",
    under(async (image) => {
      const block = image.refcountBlocks.create(100 * CLUSTER);
      freeWithin(block, { first: 0, length: 0, order: 4 });
    }),
  ],
  "the guest lies behind the L1 table": [
    "beyond the L1 table",
    under((image) => loadL1Slot(image, 1024 * 1024 * MiB)),
  ],
  "a table is let go that nobody used": [
    "that nobody used",
    under(async (image) => {
      const slice = await writableSlice(image, 0);
      const segment = { guest: 0, bytes: CLUSTER, host: CLUSTER, head: 0, tail: 0, fresh: false, slice };
      await finish(image, [{ ...segment, action: "new" }], () => true);
    }),
  ],
  "a write leaves its table": [
    "a write leaves the table",
    under(async (image) => {
      const slice = await writableSlice(image, 0);
      slice.users = 1;
      const bytes = (slice.bytes.byteLength / 8 + 1) * CLUSTER;
      const segment = { guest: 0, bytes, host: CLUSTER, head: 0, tail: 0, fresh: false, slice };
      await finish(image, [{ ...segment, action: "new" }], () => true);
    }),
  ],
  "the header's cluster is given back": [
    "the header's cluster is given back",
    under(async (image) => {
      const segment = { guest: 0, bytes: CLUSTER, host: 0, head: 0, tail: 0, fresh: false, slice: undefined };
      await finish(image, [{ ...segment, action: "new" }], () => false);
    }),
  ],
  "a writable image shows a snapshot": [
    "a writable image shows its disk",
    async () => (await opened()).image.showL1(CLUSTER, 1),
  ],
  "slices are gone through in no order": [
    "in order",
    async () => {
      const { image } = await opened();
      image.locked = <T>(): T => 0 as T;
      await discardFully(image, { from: CLUSTER, to: 2 * CLUSTER });
    },
  ],
  "a copy goes twice": [
    "a copy goes once",
    async () => {
      const node = await aQuorum();
      const [edge] = node.children;
      for (let turn = 0; turn < 2; turn++) node.driver.childList!.removed(edge!);
    },
  ],
  "a copy comes twice": [
    "a copy comes once",
    async () => {
      const node = await aQuorum();
      node.driver.childList!.added(node.children[0]!);
    },
  ],
};

/** Where the L2 tables of an image begin, as its cache knows them. */
async function tablesOf(image: Image): Promise<Set<number>> {
  const { table, at } = await loadL1Slot(image, 0);
  return new Set([table.view.getUint32(at + 4)]);
}

testPlantedFaults(faults);
