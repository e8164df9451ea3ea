// Many images under fire, over each kind of queue: workers are killed in mid-transfer, one is stopped and continued, the queue forgets all
// and is restarted. Every image is equal in the end and was to be seen once, whole; hardly a byte was moved twice. Few images by default;
// with BLOCKWRIGHT_TEST_FLEET=1000 what docs/SCALE.md tells of. What is copied is held against qemu-img.
import type { ChildProcess } from "node:child_process";
import { setTimeout } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { ended } from "./support/fleet.ts";
import { type Crew, Storm, stormSize } from "./support/storm.ts";
import { HANG_MS } from "../support/until.ts";

const MiB = 2 ** 20;
const size = stormSize(Number(process.env["BLOCKWRIGHT_TEST_FLEET"] ?? 30));
const isWhole = size.images >= 1000;
const isAsked = process.env["BLOCKWRIGHT_TEST_FLEET"] !== undefined;
const WORKERS = 4;
const AT_ONCE = 2;
const LIMIT_MS = isWhole ? 3600_000 : 3 * HANG_MS;
const LOOK_MS = 25;
/** Between two kills, ms in the mean. */
const PAUSE_MS = isWhole ? 1500 : 300;
let storm: Storm;

afterEach(() => storm.folder[Symbol.asyncDispose]());

/** What befalls a fleet, by how many of its kills have come when it does. */
type Blow = readonly [share: number, strike: () => unknown];

/** Fires at a crew until `isOver`; `start` is whoever follows one that is gone. */
async function fire(
  crew: Crew,
  { start, isOver, blows }: { start: () => ChildProcess; isOver: () => boolean; blows: Blow[] },
): Promise<void> {
  const left = [...blows];
  let paused: Promise<boolean> | undefined;
  let next = performance.now();
  for (;;) {
    await setTimeout(LOOK_MS);
    storm.look();
    if (isOver()) break;
    for (const [at, child] of crew.entries()) if (!child || child.exitCode !== null) crew[at] = start();
    if (performance.now() < next || storm.hits >= size.kills) continue;
    if (!(await storm.strike(crew))) continue;
    next = performance.now() + storm.draw(2 * PAUSE_MS);
    while (left[0] && storm.hits >= left[0][0] * size.kills) await left.shift()![1]();
    if (storm.hits >= size.kills / 3) paused ??= storm.pause(crew);
  }
  await paused;
  storm.look();
}

/** What is to be true in the end, and what it came to. */
async function judge(name: string, seconds: number): Promise<void> {
  expect(await storm.faults()).toEqual([]);
  const { data, moved, hits } = storm;
  expect(storm.visible).toBe(size.images);
  expect(hits).toBeGreaterThanOrEqual(isWhole ? size.kills : 1);
  expect(moved).toBeGreaterThanOrEqual(data);
  // Of few images two that a stopped worker had are much, and so is a step of each that a killed one had.
  const [, largest] = size.largeMiB;
  const allowed = isWhole ? 0 : (2 * largest + 2 * size.kills * AT_ONCE) * MiB;
  expect(moved).toBeLessThanOrEqual(1.1 * data + allowed);
  if (isWhole)
    process.stderr.write(`${JSON.stringify({ name, images: size.images, data, moved, hits, seconds })}\n`);
}

async function overQueue(name: string, url: string, blows: Blow[]): Promise<void> {
  const began = performance.now();
  const { folder } = storm;
  const queue = ["--queue", url, "--lease", "2000"];
  const start = (): ChildProcess => folder.start("worker", "--workers", String(AT_ONCE), ...queue);
  const list = folder.list(storm.jobs);
  // Whoever waits tells the queue again what it has forgotten, and is started again if the queue's server was away when he came.
  const wait = (): ChildProcess => folder.start("submit", list, "--wait", ...queue);
  let waiting = wait();
  const crew: Crew = Array.from({ length: WORKERS }, start);
  const isOver = (): boolean => {
    if (waiting.exitCode === 2) waiting = wait();
    return waiting.exitCode !== null;
  };
  await fire(crew, { start, isOver, blows });
  expect(waiting.exitCode).toBe(0);
  const seconds = (performance.now() - began) / 1000;
  for (const child of crew) {
    child?.kill("SIGTERM");
    if (child) await ended(child);
  }
  await judge(name, seconds);
}

describe(`${size.images} images, ${WORKERS} workers`, () => {
  // What their servers do to the adapter is held by fleet-queues, too.
  it.skipIf(!isAsked)("over Redis, which forgets twice, restarted once", { timeout: LIMIT_MS }, async () => {
    storm = new Storm(size, 1);
    const { url, forget, stop, start } = await storm.folder.redis();
    await overQueue("Redis", url, [
      [0.25, forget],
      [0.5, () => stop().then(start)],
      [0.75, forget],
    ]);
  });

  it.skipIf(!isAsked)("over PostgreSQL, which is restarted once", { timeout: LIMIT_MS }, async () => {
    storm = new Storm(size, 2);
    const { url, restart } = storm.folder.postgres();
    await overQueue("PostgreSQL", url, [[0.5, restart]]);
  });

  it("in one process, which is killed and started again", { timeout: LIMIT_MS }, async () => {
    storm = new Storm(size, 3);
    const began = performance.now();
    const list = storm.folder.list(storm.jobs);
    const start = (): ChildProcess => storm.folder.start("run", list, "--workers", String(WORKERS));
    const crew: Crew = [start()];
    const isOver = (): boolean => crew[0]?.exitCode === 0 || crew[0]?.exitCode === 1;
    await fire(crew, { start, isOver, blows: [] });
    expect(crew[0]?.exitCode).toBe(0);
    await judge("one process", (performance.now() - began) / 1000);
  });
});
