// A disk in shards into an object store: by the workers of a process, and over Redis by workers of which one is killed, one is stopped and
// comes back, while the queue forgets everything. What is there in the end is held against qemu-img.
import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { must } from "../support/tools.ts";
import { withKeys } from "../support/s3-place.ts";
import { TestStore } from "../support/s3-store.ts";
import { ended, FleetFolder, killed, type Status, type TestJob } from "./support/fleet.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
const TiB = 2 ** 40;
const SHARDS = 6;
/** Data in the middle of each shard, bytes. */
const PIECE = 4 * MiB;
const KEY = "disks/a";
let folder: FleetFolder;
let store: TestStore;
let withoutKeys: () => void;

beforeEach(async () => {
  folder = new FleetFolder();
  store = await TestStore.start();
  withoutKeys = withKeys();
  Object.assign(process.env, { AWS_ENDPOINT_URL: store.endpoint });
});

afterEach(async () => {
  withoutKeys();
  Reflect.deleteProperty(process.env, "AWS_ENDPOINT_URL");
  await folder[Symbol.asyncDispose]();
  await store.stop();
});

/** The two forms, each with what a shard of it is at least. */
const forms = [
  { form: "an object", query: "", shardBytes: 8 * MiB },
  { form: "chunks", query: "?form=chunks&chunk-size=64K", shardBytes: 64 * MiB },
];

/** The words about a target that are there, of a kind: `d` shards that are done, `g` owners, `c` checkpoints. */
function words(kind: string): string[] {
  return store.keys().filter((key) => key.startsWith(`${KEY}.fleet/f/${kind}0`));
}

/** What is there but the disk and the word that it is done. */
function leftovers(): string[] {
  const isDisk = (key: string): boolean =>
    key === KEY || /\.blockwright\/[\da-z]+-[\da-z]+-[\da-f]+$/.test(key);
  return store.keys().filter((key) => !isDisk(key) && key !== `${KEY}.fleet/f/done`);
}

/** The disk is what the source is, for QEMU too. */
async function isEqual(source: string): Promise<void> {
  const copy = folder.in("copy.raw");
  const options = { sourceFormat: "raw", targetFormat: "raw" };
  const list = folder.list([{ id: "c", kind: "convert", source: `s3://${KEY}`, target: copy, options }], "c");
  const { status, stderr } = await folder.fleet("run", list);
  expect(status, stderr).toBe(0);
  await must("qemu-img", "compare", "-f", "raw", "-F", "raw", source, copy);
}

describe.each(forms)("shards into a store, as $form", ({ query, shardBytes }) => {
  const disk = { bytes: SHARDS * shardBytes, pieces: SHARDS, piece: PIECE };
  const data = SHARDS * PIECE;
  const job = (source: string, options: TestJob["options"] = {}): TestJob => ({
    ...{ id: "a", kind: "mirror", source, target: `s3://${KEY}${query}` },
    options: { sourceFormat: "raw", shardBytes, ...options },
  });

  it("are copied by all workers of a process, once, and done once", async () => {
    const source = folder.sparse("a.raw", disk);
    const list = folder.list([job(source)]);
    const run = ["run", list, "--workers", "3", "--json", "--jobs"];
    const { stdout, status } = await folder.fleet(...run);
    expect((JSON.parse(stdout) as Status).jobs[0]).toMatchObject({
      ...{ state: "done", lastError: "", bytes: data },
    });
    expect(status).toBe(0);
    expect(leftovers()).toEqual([]);
    await isEqual(source);
    const { received } = store;
    rmSync(`${list}.journal`, { recursive: true });
    expect((await folder.fleet(...run)).status).toBe(0);
    expect(store.received).toBe(received);
  });

  it("outlive a worker that is killed, one that is stopped, and a queue that forgets", async () => {
    const source = folder.sparse("a.raw", disk);
    // Slow enough for all of them to be in their middle when something happens.
    const list = folder.list([job(source, { speedBytesPerSecond: 2 * MiB })]);
    const { url, forget } = await folder.redis();
    const worker = () => folder.start("worker", "--queue", url, "--workers", "1");
    await folder.fleet("submit", list, "--queue", url);
    const workers = [1, 2, 3].map(worker);
    await until("three are at it", () => words("g").length >= 3 && words("c").length >= 3);
    await killed(workers[0]!);
    workers[1]!.kill("SIGSTOP");
    forget();
    workers.push(worker());
    await folder.fleet("submit", list, "--queue", url);
    await until("it is there", () => store.objects.has(`${KEY}.fleet/f/done`));
    const seen = store.objects.get(KEY)?.changed;
    workers[1]!.kill("SIGCONT");
    const status = async (): Promise<Status> =>
      JSON.parse((await folder.fleet("status", "--queue", url, "--json", "--jobs")).stdout) as Status;
    await until("it is done", async () => (await status()).done === 1);
    for (const one of workers.slice(1)) {
      one.kill("SIGTERM");
      await ended(one);
    }
    const { jobs, ...counts } = await status();
    expect(counts).toEqual({ queued: 0, running: 0, done: 1, failed: 0 });
    // Each may have had the data of a shard in hand whose step is lost: also who was helping when the job came to it once more.
    // It moved nothing, where the worker that the queue had forgotten was through before the job came to another.
    const { bytes } = jobs[0]!;
    if (bytes > 0) expect(bytes).toBeGreaterThanOrEqual(data);
    expect(bytes).toBeLessThanOrEqual(data + 4 * PIECE);
    expect(store.objects.get(KEY)?.changed).toBe(seen);
    expect(leftovers()).toEqual([]);
    await isEqual(source);
  });
});

it("a disk of 1 TiB is cut by itself, and is whole in its store", async () => {
  store.pageKeys = 1000;
  const source = folder.sparse("a.raw", { bytes: TiB, pieces: 12, piece: 2 * MiB });
  const target = `s3://${KEY}?form=chunks`;
  const list = folder.list([{ id: "a", kind: "convert", source, target, options: { sourceFormat: "raw" } }]);
  const child = folder.start("run", list, "--workers", "4");
  await until("some of 64 shards are done", () => words("d").length >= 20);
  await killed(child);
  expect(store.objects.has(KEY)).toBe(false);
  const { stdout, status } = await folder.fleet("run", list, "--workers", "4", "--json", "--jobs");
  expect(status, stdout).toBe(0);
  const { bytes = 0 } = (JSON.parse(stdout) as Status).jobs[0] ?? {};
  expect(bytes).toBeGreaterThanOrEqual(24 * MiB);
  // Those that were killed may each have had a piece in hand.
  expect(bytes).toBeLessThanOrEqual((24 + 8) * MiB);
  expect(leftovers()).toEqual([]);
  await isEqual(source);
});
