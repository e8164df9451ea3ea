// Power cuts while an image is amended: whatever set of unflushed sectors is lost, the image opens and checks clean (leaks are
// allowed), the disk is what it was, and of what the request changes each is as before or as wanted. A volume opens by the
// passphrase that stays, and by one that comes or goes if its slot says so.
//
// POWERCUT_SEED: the first seed, POWERCUT_CUTS: cuts of each request (default 40; 10 where key slots change).
import { expect, test } from "vitest";
import { amend } from "../../src/block/graph/amend.ts";
import { BlockBackend } from "../../src/block/graph/backend.ts";
import { BlockGraph } from "../../src/block/graph/graph.ts";
import { Perm } from "../../src/block/model/permissions.ts";
import { portableDrivers } from "../../src/drivers/index.ts";
import type { Qcow2 } from "../../src/drivers/format/qcow2/index.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { randomness } from "../support/random.ts";
import { tally } from "../support/tally.ts";
import { Journal, journalType } from "./support/journal.ts";

const SEED = Number(process.env["POWERCUT_SEED"] ?? 1);
const CUTS = process.env["POWERCUT_CUTS"];
const SIZE = 2 ** 20;
/** No whole number of clusters. */
const LESS = SIZE - 1536;
const kernels = loadKernels({ arenaBytes: 2 ** 20 });
const host = nodeHost();
type Random = (limit: number) => number;

interface Kind {
  name: string;
  driver: "qcow2" | "luks";
  create: Record<string, unknown>;
  /** An internal snapshot is made before: refcounts of 2. */
  snapshot?: boolean;
  /** Requests, one after another; the power is cut during the last. */
  requests: Record<string, unknown>[];
  /** Passphrases with which the last request begins and ends. */
  secrets?: { before: string[]; after: string[] };
}

const slots = (state: "active" | "inactive", keyslot: number): Record<string, unknown> =>
  state === "active" ? { state, keyslot, "new-secret": "s1", "iter-time": 1 } : { state, keyslot };
const added = { before: ["s0"], after: ["s0", "s1"] };
const erased = { before: ["s0", "s1"], after: ["s0"] };
const luks = { "key-secret": "s0", "iter-time": 1 };
const encrypted = { encrypt: { format: "luks", ...luks } };
const encrypt = (change: Record<string, unknown>): Record<string, unknown> => ({
  encrypt: { format: "luks", ...change },
});

const kinds: readonly Kind[] = [
  { name: "refcounts of 1 bit", driver: "qcow2", create: {}, requests: [{ "refcount-bits": 1 }] },
  {
    name: "refcounts of 64 bits, with a snapshot",
    driver: "qcow2",
    create: { "refcount-bits": 8 },
    snapshot: true,
    requests: [{ "refcount-bits": 64 }],
  },
  { name: "version 2", driver: "qcow2", create: {}, requests: [{ version: "v2" }] },
  {
    name: "version 3, refcounts of 4 bits",
    driver: "qcow2",
    create: { version: "v2" },
    requests: [{ version: "v3", "refcount-bits": 4, "lazy-refcounts": true }],
  },
  { name: "lazy refcounts", driver: "qcow2", create: {}, requests: [{ "lazy-refcounts": true }] },
  {
    name: "lazy refcounts off, and larger",
    driver: "qcow2",
    create: { "lazy-refcounts": true },
    requests: [{ "lazy-refcounts": false, size: 40 * SIZE }],
  },
  {
    name: "larger again",
    driver: "qcow2",
    create: {},
    // What is cut off lies in the last cluster still, and must not come back.
    requests: [{ size: LESS }, { size: 2 * SIZE }],
  },
  {
    name: "a key slot",
    driver: "qcow2",
    create: encrypted,
    requests: [encrypt(slots("active", 1))],
    secrets: added,
  },
  {
    name: "a key slot less",
    driver: "qcow2",
    create: encrypted,
    requests: [encrypt(slots("active", 7)), encrypt(slots("inactive", 7))],
    secrets: erased,
  },
  { name: "a key slot", driver: "luks", create: luks, requests: [slots("active", 6)], secrets: added },
  {
    name: "a key slot less",
    driver: "luks",
    create: luks,
    requests: [slots("active", 6), slots("inactive", 6)],
    secrets: erased,
  },
];

interface OpenDisk {
  graph: BlockGraph;
  disk: BlockBackend;
}

function newGraph(): BlockGraph {
  const graph = new BlockGraph({ host, kernels });
  graph.register(...portableDrivers);
  for (const id of ["s0", "s1"]) graph.secrets.set(id, new TextEncoder().encode(`passphrase ${id}`));
  return graph;
}

/** The nodes' own driver is named `journal`, so each graph can have one journal. */
async function open(kind: Kind, journal: Journal, secret = "s0"): Promise<OpenDisk> {
  const graph = newGraph();
  graph.register(journalType(journal));
  const key = { "key-secret": secret };
  const keys = kind.driver === "luks" ? key : kind.secrets ? { encrypt: { format: "luks", ...key } } : {};
  try {
    const file = { driver: "journal", "node-name": "file" };
    const node = await graph.add({ driver: kind.driver, "node-name": "disk", file, ...keys });
    const disk = new BlockBackend(graph);
    const perm = Perm.consistentRead | Perm.write | Perm.resize;
    await disk.attach(node, { perm, shared: Perm.all });
    return { graph, disk };
  } catch (error) {
    await graph.close();
    throw error;
  }
}

async function close({ disk, graph }: OpenDisk): Promise<void> {
  await disk.close();
  await graph.close();
}

async function newImage({ driver, create }: Kind, clusterSize: number): Promise<Uint8Array> {
  const graph = newGraph();
  const node = await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  const cluster = driver === "qcow2" ? { "cluster-size": clusterSize } : {};
  await graph.driver(driver).create!({ graph, host }, { ...cluster, ...create, size: SIZE, file: "m" });
  const bytes = new Uint8Array(node.length);
  await node.driver.pread(0, bytes, 0);
  await graph.close();
  return bytes;
}

/** Data, zeroes and what was never written, at random; durable. Returns the disk. */
async function fill({ disk }: OpenDisk, kind: Kind, random: Random): Promise<Uint8Array> {
  const content = new Uint8Array(SIZE);
  await disk.pread(0, content);
  for (let count = 0; count < 24; count++) {
    const bytes = 512 * (1 + random(100));
    const offset = 512 * random((SIZE - bytes) / 512);
    const data = new Uint8Array(bytes).fill(random(3) === 0 ? 0 : 1 + random(255));
    if (data[0] === 0 && kind.driver === "qcow2") await disk.pwriteZeroes(offset, bytes);
    else await disk.pwrite(offset, data);
    content.set(data, offset);
  }
  await disk.flush();
  return content;
}

/** What requests change, as the open image tells it. */
function view({ disk }: OpenDisk): Record<string, unknown> {
  const { data } = disk.root!.node.driver.formatSpecific!()!;
  const inner = (data["encrypt"] ?? data) as { slots?: { active: boolean }[] };
  return {
    compat: data["compat"],
    bits: data["refcount-bits"],
    lazy: data["lazy-refcounts"] ?? false,
    size: disk.length,
    slots: inner.slots?.map(({ active }) => (active ? "x" : ".")).join(""),
  };
}

/** A version 2 image has no dirty bit: there a flag may be missing. */
async function expectClean({ disk }: OpenDisk): Promise<void> {
  const { driver } = disk.root!.node;
  if (!("check" in driver)) return;
  const { corruptions } = await (driver as Qcow2).check();
  expect(corruptions.filter((words) => !words.startsWith("ERROR OFLAG_COPIED"))).toEqual([]);
}

interface Run {
  kind: Kind;
  journal: Journal;
  content: Uint8Array;
  before: Record<string, unknown>;
  after: Record<string, unknown>;
  from: number;
  end: number;
}

async function play(kind: Kind, clusterSize: number, random: Random): Promise<Run> {
  const journal = new Journal(await newImage(kind, clusterSize), random);
  const opened = await open(kind, journal);
  const { node } = opened.disk.root!;
  const content = await fill(opened, kind, random);
  if (kind.snapshot) await (node.driver as Qcow2).snapshots()!.create({ name: "s" });
  for (const request of kind.requests.slice(0, -1)) await amend(node, request);
  content.fill(0, opened.disk.length);
  const before = view(opened);
  const from = journal.now;
  await amend(node, kind.requests.at(-1)!);
  const after = view(opened);
  const end = journal.now;
  expect(after).not.toEqual(before);
  await close(opened);
  return { kind, journal, content, before, after, from, end };
}

async function judge(run: Run, at: number, keep: number): Promise<void> {
  const { kind, journal, content, before, after, end } = run;
  const image = journal.crash(at, keep);
  const left = await open(kind, new Journal(image, journal.random));
  const found = view(left);
  for (const [name, value] of Object.entries(found))
    expect(at === end - 1 ? [after[name]] : [before[name], after[name]], name).toContain(value);
  await expectClean(left);
  const now = new Uint8Array(Math.min(left.disk.length, SIZE));
  await left.disk.pread(0, now);
  expect(Buffer.compare(now, content.subarray(0, now.length))).toBe(0);
  await left.disk.pwrite(512 * journal.random(1000), new Uint8Array(40_000).fill(7));
  await expectClean(left);
  await close(left);
  if (kind.secrets) await judgeSecrets(run, image, { at, found });
}

/** A slot that the header calls active may be one whose header or material did not come through: only while a request runs. */
async function judgeSecrets(
  { kind, journal, after, end }: Run,
  image: Uint8Array,
  { at, found }: { at: number; found: Record<string, unknown> },
): Promise<void> {
  const opens = await open(kind, new Journal(image, journal.random), "s1").then(
    async (opened) => {
      await close(opened);
      return true;
    },
    (error: Error) => {
      expect(error.message).toContain("Invalid password, cannot unlock any keyslot");
      return false;
    },
  );
  const isActive = (found["slots"] as string).lastIndexOf("x") > 0;
  if (!isActive) expect(opens).toBe(false);
  if (at === end - 1 && found["slots"] === after["slots"])
    expect(opens).toBe(kind.secrets!.after.includes("s1"));
}

const cases = kinds.flatMap((kind, index) =>
  kind.secrets || kind.driver === "luks"
    ? [{ kind, index, clusterSize: 4096 }]
    : [512, 65536].map((clusterSize) => ({ kind, index, clusterSize })),
);

test.each(
  cases.map(
    (each) => [`${each.kind.driver}, clusters of ${each.clusterSize}: ${each.kind.name}`, each] as const,
  ),
)("%s", async (_name, { kind, index, clusterSize }) => {
  const random = randomness(SEED * 1000 + index * 10 + (clusterSize === 512 ? 1 : 0));
  const run = await play(kind, clusterSize, random);
  const cuts = Number(CUTS ?? (kind.secrets ? 10 : 40));
  tally({ crashStates: cuts });
  for (let cut = 0; cut < cuts; cut++) {
    // The first cut comes when the request has been answered: all of it is durable.
    const at = cut === 0 ? run.end - 1 : run.from + random(run.end - run.from);
    const keep = cut === 0 ? 0 : [0, 50, 90, 100, 20][cut % 5]!;
    try {
      await judge(run, at, keep);
    } catch (error) {
      const where = `cut at ${at} of ${run.from}..${run.end}, keeping ${keep} %`;
      throw new Error(`POWERCUT_SEED=${SEED}: ${where}`, { cause: error });
    }
  }
});
