// Faults that are planted in the block layer: each trips an assert, which names what does not hold.
import { AssertionError } from "../../../src/base/assert.ts";
import { RangeLock } from "../../../src/base/ranges.ts";
import { deferred } from "../../../src/base/signals.ts";
import { BlockCopy, RangeCopier } from "../../../src/block/copy/block-copy.ts";
import { dirtyRun, failedGranules, pieceBytes } from "../../../src/block/copy/pieces.ts";
import { Window } from "../../../src/block/copy/window.ts";
import { WriteOrder } from "../../../src/block/copy/write-order.ts";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import { FilterLease, link } from "../../../src/block/graph/edges.ts";
import { switchReadOnly } from "../../../src/block/graph/read-only.ts";
import { readPadding } from "../../../src/block/io/read-modify-write.ts";
import { leave } from "../../../src/block/model/in-flight.ts";
import { blockStatus } from "../../../src/block/io/status.ts";
import { createDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { unquiesce } from "../../../src/block/model/drain.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { DirtyCursor } from "../../../src/block/bitmap/dirty-cursor.ts";
import { ThrottleGroup } from "../../../src/block/throttle/throttle.ts";
import { Bitmap } from "../../../src/kernels/bitmap.ts";
import { KiB, MiB, TestGraph } from "../support/graph.ts";
import { addProbe } from "../support/probe.ts";
import { VirtualClock } from "../support/virtual-host.ts";
import { type PlantedFaults, testPlantedFaults } from "../support/planted-faults.ts";

const CLUSTER = 64 * KiB;

async function disks(): Promise<{ test: TestGraph; node: BlockNode; copy: BlockCopy }> {
  const made = new TestGraph();
  const node = await made.disk("src", MiB);
  const [source, target] = [await made.edge("src"), await made.edge(await made.disk("dst", MiB))];
  const { arena, kernels, host } = made.graph;
  return { test: made, node, copy: new BlockCopy({ source, target, arena, kernels, clock: host.clock }) };
}

async function bitmap(): Promise<Bitmap> {
  return new Bitmap(MiB, CLUSTER, (await disks()).test.graph.kernels);
}

async function copier(): Promise<RangeCopier> {
  const { test: made } = await disks();
  const { arena, kernels } = made.graph;
  return new RangeCopier({ source: await made.edge("src"), target: await made.edge("dst"), arena, kernels });
}

const group = (): ThrottleGroup => new ThrottleGroup({ name: "g", clock: new VirtualClock(), limits: {} });
const work = { bytes: 1, result: deferred().promise };
const nothing = { kind: "data", bytes: 0, allocated: true } as const;
const cutting = { granularity: CLUSTER, bufBytes: MiB, diskBytes: MiB };

const faults: PlantedFaults = {
  "a window without room": ["no room for any", () => new Window({ works: 0 })],
  "more works than a window holds": [
    "more works are under way",
    () => {
      const window = new Window({ works: 1 });
      window.add(work);
      window.add({ ...work });
    },
  ],
  "a work ends that did not begin": ["not under way", () => new Window({ works: 1 }).end(work)],
  "a piece begins twice": [
    "a piece begins once",
    () => {
      const order = new WriteOrder();
      order.begin(0);
      order.begin(0);
    },
  ],
  "a piece waits for two turns": [
    "a piece has one turn",
    () => {
      const order = new WriteOrder();
      for (const offset of [0, 1]) order.begin(offset);
      for (let turn = 0; turn < 2; turn++) void order.turn(1);
    },
  ],
  "a cursor takes what it did not show": [
    "what is taken was not shown",
    async () => {
      const { copy } = await disks();
      const cursor = new DirtyCursor(copy, { offset: 0, bytes: MiB });
      cursor.peek();
      cursor.take({ offset: CLUSTER, bytes: CLUSTER });
    },
  ],
  "a part of a cluster counts as copied": [
    "a part of a cluster",
    async () => (await disks()).copy.markClean({ offset: 512, bytes: CLUSTER }),
  ],
  "nothing is dirty": [
    "something is dirty",
    async () => (await disks()).copy.markDirty({ offset: 0, bytes: 0 }),
  ],
  "a look behind the end": [
    "cluster within the disk",
    async () => (await disks()).copy.resetUnallocated(MiB),
  ],
  "a pass sees its bitmap replaced": [
    "replaced under a pass",
    async () => {
      const { copy, test: made } = await disks();
      const pass = copy.start({ offset: 0, bytes: MiB });
      try {
        copy.restrictTo(await bitmap());
      } finally {
        await made.host.clock.settle(pass.done);
      }
    },
  ],
  "a copy ends with clusters under way": [
    "clusters under way",
    async () => {
      const { copy } = await disks();
      copy.inFlight.add({ offset: 0, bytes: CLUSTER });
      copy.free();
    },
  ],
  "a dirty run begins within a granule": [
    "within a granule",
    async () => dirtyRun(await bitmap(), new RangeLock(), { first: 512, ...cutting }),
  ],
  "a piece of nothing": ["a piece of something", () => pieceBytes(nothing, CLUSTER, cutting)],
  "a search finds a broken invariant": [
    "planted",
    () =>
      failedGranules({ offset: 0, bytes: MiB }, new Error("EIO"), {
        granule: CLUSTER,
        copy: () => Promise.reject(new AssertionError("planted")),
        goesOn: () => true,
      }),
  ],
  "a source tells nothing": [
    "extent within its range",
    async () => {
      const one = await copier();
      one.status = () => nothing;
      await one.copy(0, MiB);
    },
  ],
  "a source breaks while its status is asked": [
    "answered an empty block status",
    async () => {
      const { graph } = new TestGraph();
      const { node, driver } = await addProbe(graph, { "node-name": "p", size: MiB });
      Object.assign(driver, { blockStatus: () => ({ bytes: 0, data: true, zero: false, allocated: true }) });
      const made = new TestGraph();
      const source = await made.edge(node);
      await new RangeCopier({ source, target: source, arena: graph.arena, kernels: graph.kernels }).copy(
        0,
        MiB,
      );
    },
  ],
  "the status of nothing": ["empty range", async () => blockStatus((await disks()).node, 0, 0)],
  "limits hold twice": ["throttling enabled twice", () => group().join().enable()],
  "a stranger leaves a group": ["not a member", () => group().remove(group().join())],
  "a request pays back": ["less than nothing is charged", () => group().join().intercept("read", -1)],
  "a successor takes over that there is none of": [
    "has no successor",
    async () => createDirtyBitmap((await disks()).node).abdicate(),
  ],
  "a frozen bitmap thaws": [
    "a bitmap with a successor is frozen",
    async () => {
      const frozen = createDirtyBitmap((await disks()).node);
      frozen.createSuccessor();
      frozen.busy = false;
      frozen.reclaim();
    },
  ],
  "a granularity of no power of two": [
    "granularity",
    async () => createDirtyBitmap((await disks()).node, { granularity: 1000 }),
  ],
  "a drain ends twice": ["ended without a beginning", async () => unquiesce((await disks()).node)],
  "a node is opened twice": [
    "a node is opened once",
    async () => {
      const { node } = await disks();
      node.setDriver(node.driver);
    },
  ],
  "a block is taken back that nobody put": [
    "a block is taken back once",
    async () => {
      const { node } = await disks();
      for (const step of ["block", "unblock", "unblock"] as const) node[step]("planted");
    },
  ],
  "a request ends twice": ["more requests ended", async () => leave((await disks()).node)],
  "padding begins within a block": [
    "padding is whole blocks",
    async () => {
      const { node } = await disks();
      node.limits.requestAlignment = 512;
      await readPadding(node, new Uint8Array(1024), { start: 100, head: true, tail: false });
    },
  ],
  "a backend takes a second node": [
    "a backend holds one node",
    async () => {
      const { test: made, node } = await disks();
      const backend = new BlockBackend(made.graph);
      await Promise.all([backend.attach(node, guestPermissions), backend.attach(node, guestPermissions)]);
    },
  ],
  "a backend's drain ends twice": [
    "a drain ends once",
    async () => new BlockBackend((await disks()).test.graph).drainedEnd(),
  ],
  "an edge is linked twice": [
    "an edge is linked once",
    async () => link(await (await disks()).test.edge("src")),
  ],
  "a disk is taken for a filter": [
    "is no filter",
    async () => {
      const ways = { remove: () => Promise.resolve(), release: () => Promise.resolve() };
      return new FilterLease((await disks()).node, ways);
    },
  ],
  "a node is switched while it works": [
    "what is switched is drained",
    async () => switchReadOnly((await disks()).node, true),
  ],
  "a node is released too often": [
    "released too often",
    async () => {
      const { test: made, node } = await disks();
      await made.graph.release(node);
    },
  ],
  "a name is taken twice": [
    "exists",
    async () => {
      const { test: made, node } = await disks();
      made.graph.addNode(node);
    },
  ],
};

testPlantedFaults(faults);
