// Images that we create and write at random are clean in `qemu-img check`, equal to a model in `qemu-img compare`, and
// read back equal by our own driver. A failing seed prints the command that replays it.
import type { Answer } from "../../src/base/answer.ts";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Req } from "../../src/block/model/contract.ts";
import { fileGraph, inDirectory, must, openImage, type OpenImage, readDisk, tool } from "./support/qcow2.ts";

const only = process.env["QCOW2_SEED"];
const seeds = only ? [Number(only)] : Array.from({ length: 24 }, (_, index) => index + 1);
const KiB = 1024;

/** mulberry32. */
function randomness(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

interface Story {
  random: (limit: number) => number;
  path: string;
  clusterSize: number;
  version: 2 | 3;
  backed: boolean;
  canSnapshot: boolean;
  model: Uint8Array;
  image: OpenImage;
  /** Files are written in the caller's turn, and requests try to be done at once. */
  inTurn: boolean;
  /** Requests that were. */
  atOnce: number;
}

function pick<T>(random: (limit: number) => number, items: readonly T[]): T {
  return items[random(items.length)]!;
}

async function begin(
  random: Story["random"],
  directory: string,
): Promise<Omit<Story, "image" | "inTurn" | "atOnce">> {
  const clusterSize = pick(random, [512, 1024, 4096, 65536, 65536, 2 ** 20, 2 ** 21]);
  const version = random(4) === 0 ? 2 : 3;
  const size = 512 * (1000 + random(clusterSize < 4096 ? 4000 : 30000));
  const path = join(directory, "a.qcow2");
  const backed = random(3) === 0;
  let model = new Uint8Array(size);
  const options: Record<string, unknown> = {
    driver: "qcow2",
    size,
    version: `v${version}`,
    "cluster-size": clusterSize,
  };
  if (version === 3) options["refcount-bits"] = pick(random, [1, 2, 4, 8, 16, 16, 32, 64]);
  if (backed) {
    const base = new Uint8Array(pick(random, [size, 512 * random(size / 512), size + 512 * 700])).fill(0xba);
    await writeFile(join(directory, "base.raw"), base);
    model = new Uint8Array(size);
    model.set(base.subarray(0, size));
    Object.assign(options, { "backing-file": "base.raw", "backing-fmt": "raw" });
  } else {
    options["preallocation"] = pick(random, ["off", "off", "off", "metadata", "falloc", "full"]);
  }
  const graph = fileGraph();
  await graph.driver("file").create!({ graph, host: graph.host }, { filename: path, size: 0 });
  await graph.driver("qcow2").create!(
    { graph, host: graph.host },
    { ...options, file: { driver: "file", filename: path } },
  );
  await graph.close();
  const canSnapshot = version === 3 && Number(options["refcount-bits"]) >= 8;
  return { random, path, clusterSize, version, backed, canSnapshot, model };
}

function range({ random, model }: Story): { offset: number; bytes: number } {
  const most = pick(random, [600, 5000, 70 * KiB, 1500 * KiB]);
  const offset = random(model.length);
  return { offset, bytes: Math.min(1 + random(most), model.length - offset) };
}

async function write(story: Story, flags = 0): Promise<void> {
  let { offset, bytes } = range(story);
  if (flags & Req.compressed) {
    offset -= offset % story.clusterSize;
    bytes = Math.min(Math.ceil(bytes / story.clusterSize) * story.clusterSize, story.model.length - offset);
  }
  const data = new Uint8Array(bytes).fill(1 + story.random(255));
  if (story.random(2)) for (let at = 0; at < bytes; at += 7) data[at] = story.random(256);
  story.model.set(data, offset);
  await counted(story, story.image.disk.pwrite(offset, data, flags));
}

/** Waits for a request, if it is not over yet. */
async function counted(story: Story, request: Answer<void>): Promise<void> {
  if (request) await request;
  else story.atOnce += 1;
}

/** Writes whole clusters, which can be allocated at once. */
async function writeClusters(story: Story): Promise<void> {
  const { clusterSize, model, random, image } = story;
  const clusters = Math.floor(model.length / clusterSize);
  if (clusters === 0) return write(story);
  const first = random(clusters);
  const count = Math.min(1 + random(8), clusters - first);
  const data = new Uint8Array(count * clusterSize).fill(1 + random(255));
  model.set(data, first * clusterSize);
  await counted(story, image.disk.pwrite(first * clusterSize, data));
}

/** Reads somewhere, at once if that can be. */
async function read(story: Story): Promise<void> {
  const { offset, bytes } = range(story);
  const buffer = new Uint8Array(bytes);
  await counted(story, story.image.disk.pread(offset, buffer));
  expect(Buffer.compare(buffer, story.model.subarray(offset, offset + bytes)), "what is read").toBe(0);
}

async function zero(story: Story): Promise<void> {
  const { offset, bytes } = range(story);
  story.model.fill(0, offset, offset + bytes);
  return story.image.disk.pwriteZeroes(offset, bytes, story.random(2) ? Req.mayUnmap : 0);
}

/** Whole clusters inside the range become zeroes; the rest stays. */
async function drop(story: Story): Promise<void> {
  const { offset, bytes } = range(story);
  const { clusterSize, model, version, backed } = story;
  if (version === 3 || !backed) {
    const from = Math.ceil(offset / clusterSize) * clusterSize;
    const end = offset + bytes;
    const to = end === model.length ? end : end - (end % clusterSize);
    if (to > from) model.fill(0, from, to);
  }
  return story.image.disk.pdiscard(offset, bytes);
}

async function resize(story: Story): Promise<void> {
  const { random, model, clusterSize } = story;
  const size = 512 * Math.max(1, Math.floor(model.length / 512) + random(600) - 300);
  if (story.version === 2 && story.backed && size > model.length) return;
  const next = new Uint8Array(size);
  next.set(model.subarray(0, size));
  story.model = next;
  await story.image.disk.root!.truncate(size, { exact: true, preallocation: "off" });
  expect(story.image.disk.length, `cluster size ${clusterSize}`).toBe(size);
}

/** Some requests at once, on ranges that do not overlap in bytes but may share clusters. */
async function volley(story: Story): Promise<void> {
  const { random, model } = story;
  const count = 2 + random(12);
  const share = Math.floor(model.length / 3 / count);
  const start = random(model.length - share * count);
  const step = pick(
    random,
    [share, 700, 3000, 40000].filter((bytes) => bytes <= share),
  );
  const requests: Promise<void>[] = [];
  for (let index = 0; index < count; index++) {
    const offset = start + index * step;
    const data = new Uint8Array(1 + random(Math.max(step - 1, 1))).fill(1 + random(255));
    model.set(data, offset);
    requests.push(Promise.resolve(story.image.disk.pwrite(offset, data)));
  }
  await Promise.all(requests);
}

async function reopen(story: Story): Promise<void> {
  await story.image.close();
  // With narrow refcounts qemu-img itself leaks clusters when a snapshot fails.
  if (story.random(2) && story.canSnapshot) await must("qemu-img", "snapshot", "-c", "s", story.path);
  story.image = await open(story.path, story.inTurn);
}

function open(path: string, inTurn: boolean): Promise<OpenImage> {
  const options = { discard: "unmap" as const, "cache-size": 2 ** 18 };
  return openImage(path, options, undefined, inTurn ? "in-turn" : "pool");
}

async function play(seed: number, directory: string): Promise<void> {
  const random = randomness(seed);
  const beginning = await begin(random, directory);
  const inTurn = seed % 2 === 0;
  const image = await open(beginning.path, inTurn);
  const story: Story = { ...beginning, image, inTurn, atOnce: 0 };
  const steps = [write, write, write, volley, volley, zero, drop, (s: Story) => write(s, Req.compressed)];
  if (inTurn) steps.push(writeClusters, writeClusters, read, read);
  for (let index = 0; index < 120; index++) {
    const special = random(40);
    if (special === 0) await reopen(story);
    else if (special < 3) await resize(story);
    else if (special < 6) await story.image.disk.flush();
    else await pick(random, steps)(story);
  }
  if (inTurn) expect(story.atOnce).toBeGreaterThan(0);
  const content = await readDisk(story.image);
  expect(Buffer.compare(content, story.model), "our own content").toBe(0);
  await story.image.close();
  const { code, output } = await tool("qemu-img", "check", story.path);
  expect(code, output).toBe(0);
  const truth = join(directory, "model.raw");
  await writeFile(truth, story.model);
  await must("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", story.path, truth);
}

for (const seed of seeds) {
  test(`random writes, seed ${seed}`, async () => {
    try {
      await inDirectory((directory) => play(seed, directory));
    } catch (error) {
      console.error(
        `replay: QCOW2_SEED=${seed} npx vitest run --project interop test/interop/qcow2-random.test.ts`,
      );
      throw error;
    }
  });
}
