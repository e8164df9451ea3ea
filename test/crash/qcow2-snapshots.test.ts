// Power cuts while internal snapshots are made, applied and removed: whatever set of unflushed sectors is lost, the image
// opens and is clean, the disk is as before or after the change, and so is the list of snapshots, each with its content.
import { expect, test } from "vitest";
import { BlockBackend } from "../../src/block/graph/backend.ts";
import { BlockGraph } from "../../src/block/graph/graph.ts";
import { Perm } from "../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../src/drivers/format/qcow2/checked.ts";
import type { Qcow2 } from "../../src/drivers/format/qcow2/index.ts";
import { memory } from "../../src/drivers/protocol/memory.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { randomness } from "../support/random.ts";
import { tally } from "../support/tally.ts";
import { Journal, journalType } from "./support/journal.ts";

const CUTS = Number(process.env["POWERCUT_CUTS"] ?? 120);
const SIZE = 2 ** 19;
const PIECES = 16;
const kernels = loadKernels({ arenaBytes: 2 ** 20 });

interface OpenDisk {
  graph: BlockGraph;
  disk: BlockBackend;
  driver: Qcow2;
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

async function emptyImage(options: Record<string, unknown>): Promise<Uint8Array> {
  const graph = new BlockGraph({ host: nodeHost(), kernels });
  graph.register(memory, qcow2);
  const node = await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  await qcow2.create!({ graph, host: graph.host }, { ...options, size: SIZE, file: "m" });
  const bytes = new Uint8Array(node.length);
  await node.driver.pread(0, bytes, 0);
  await graph.close();
  return bytes;
}

/** Disk and snapshots at rest: the value of each piece, and of each piece of each snapshot. */
interface State {
  readonly pieces: readonly number[];
  readonly snapshots: ReadonlyMap<string, readonly number[]>;
}

/** From `from` on the disk was in this state or on the way to the next. */
interface Step extends State {
  readonly from: number;
}

async function change(
  state: State,
  { disk, driver }: OpenDisk,
  random: (limit: number) => number,
): Promise<State> {
  const snapshots = new Map(state.snapshots);
  const ids = [...snapshots.keys()];
  const id = ids[random(ids.length)];
  const kind = random(6);
  if (kind < 2 || (kind > 3 && id === undefined)) {
    const pieces = [...state.pieces];
    for (let count = 1 + random(5); count > 0; count--) pieces[random(PIECES)] = 1 + random(255);
    const bytes = SIZE / PIECES;
    for (const [index, value] of pieces.entries()) {
      if (value !== state.pieces[index]) await disk.pwrite(index * bytes, new Uint8Array(bytes).fill(value));
    }
    await disk.flush();
    return { pieces, snapshots };
  }
  if (kind < 4 || id === undefined) {
    snapshots.set((await driver.snapshots()!.create({ name: "s" })).id, state.pieces);
    return { pieces: state.pieces, snapshots };
  }
  if (kind === 4) {
    await driver.snapshots()!.apply(id);
    return { pieces: snapshots.get(id)!, snapshots };
  }
  await driver.snapshots()!.remove(id);
  snapshots.delete(id);
  return { pieces: state.pieces, snapshots };
}

/** The values of the pieces; -1 for one that is not uniform. */
async function piecesOf({ disk }: OpenDisk): Promise<number[]> {
  const content = new Uint8Array(SIZE);
  await disk.pread(0, content);
  return Array.from({ length: PIECES }, (_, index) => {
    const piece = content.subarray((index * SIZE) / PIECES, ((index + 1) * SIZE) / PIECES);
    return piece.every((byte) => byte === piece[0]) ? piece[0]! : -1;
  });
}

/** Version 2 has no dirty bit: there a flag may be missing, or claim a cluster that only a leak shares. */
async function expectClean({ driver }: OpenDisk): Promise<void> {
  const { corruptions } = await driver.check();
  const isV2 = driver.formatSpecific().data["compat"] === "0.10";
  expect(corruptions.filter((words) => !(isV2 && words.startsWith("ERROR OFLAG_COPIED")))).toEqual([]);
}

async function judge(
  image: Uint8Array,
  between: readonly State[],
  random: (limit: number) => number,
): Promise<void> {
  const journal = new Journal(image, random);
  const left = await open(journal);
  await expectClean(left);
  const pieces = await piecesOf(left);
  const ids = left.driver
    .snapshots()!
    .list()
    .map(({ id }) => id);
  await left.disk.pwrite(0, new Uint8Array(SIZE).fill(0xee));
  await expectClean(left);
  await close(left);
  expect(between.map(({ snapshots }) => [...snapshots.keys()])).toContainEqual(ids);
  const isWrite = between.every(({ snapshots }) => [...snapshots.keys()].join() === ids.join());
  if (isWrite) {
    for (const [index, value] of pieces.entries()) {
      // A write under way may have reached a part of the piece.
      const allowed = between.map((state) => state.pieces[index]);
      if (new Set(allowed).size === 1) expect(allowed).toContain(value);
    }
  } else {
    expect(between.map((state) => state.pieces)).toContainEqual(pieces);
  }
  for (const id of ids) {
    // As the disk was written to meanwhile: none of it may have gone into a snapshot.
    const shown = await open(new Journal(journal.content.slice(0, journal.length), random), true);
    await shown.driver.snapshots()!.show(id);
    expect(await piecesOf(shown)).toEqual(between.map(({ snapshots }) => snapshots.get(id)).find(Boolean));
    await close(shown);
  }
}

async function play(seed: number): Promise<void> {
  const random = randomness(seed);
  const version = seed % 4 === 3 ? "v2" : "v3";
  const options = { "cluster-size": [512, 4096, 65536][seed % 3]!, version };
  const journal = new Journal(await emptyImage(options), random);
  const opened = await open(journal);
  const steps: Step[] = [{ pieces: Array.from({ length: PIECES }, () => 0), snapshots: new Map(), from: -1 }];
  for (let count = 0; count < 14; count++) {
    const from = journal.now;
    steps.push({ ...(await change(steps.at(-1)!, opened, random)), from });
  }
  const end = journal.now;
  await close(opened);
  tally({ crashStates: CUTS });
  for (let cut = 0; cut < CUTS; cut++) {
    const at = random(end);
    const next = steps.findLastIndex(({ from }) => from <= at);
    const between = steps.slice(Math.max(0, next - 1), next + 1);
    const keep = [0, 50, 90, 100, 20][cut % 5]!;
    const image = journal.crash(at, keep);
    try {
      await judge(image, between, random);
    } catch (error) {
      throw new Error(`seed ${seed}, cut at ${at} in step ${next}, keeping ${keep} %`, { cause: error });
    }
  }
}

for (let seed = 1; seed <= 6; seed++) {
  test(`power cuts while snapshots change, seed ${seed}`, () => play(seed));
}
