// Random stories: a guest that writes, zeroes and discards while a backup runs, is paused, meets errors and is resumed.
// Whatever happens, the target ends up with the source's content at the moment of the start.
import { expect, it } from "vitest";
import type { Child } from "../../../src/block/model/node.ts";
import type { BackupJob } from "../../../src/job/backup/job.ts";
import { startBackup } from "../../../src/job/backup/backup.ts";
import { KiB, MiB, TestGraph, pattern } from "../support/graph.ts";

const SIZE = 6 * MiB + 512;

/** A repeatable stream of numbers. */
function numbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Makes the requests of a driver take a turn or fail, as the dice fall. */
function shake(test: TestGraph, name: string, dice: (limit: number) => number): void {
  const { driver } = test.graph.node(name);
  const { clock } = test.host;
  const pread = driver.pread.bind(driver);
  const pwrite = driver.pwrite!.bind(driver);
  const mishap = async (): Promise<void> => {
    if (dice(3) === 0) await clock.turn();
    if (dice(25) === 0) throw Object.assign(new Error("mishap"), { code: dice(2) === 0 ? "EIO" : "ENOSPC" });
  };
  driver.pread = async (offset, buffer, flags) => {
    await mishap();
    return pread(offset, buffer, flags);
  };
  driver.pwrite = async (offset, buffer, flags) => {
    await mishap();
    return pwrite(offset, buffer, flags);
  };
}

/** One request of the guest; it may fail, and then the guest gives up on it. */
async function guestRequest(guest: Child, dice: (limit: number) => number): Promise<void> {
  const bytes = 512 * (1 + dice(400));
  const offset = 512 * dice((SIZE - bytes) / 512);
  const kind = dice(4);
  const request =
    kind === 0
      ? guest.pwriteZeroes(offset, bytes)
      : kind === 1
        ? guest.pdiscard(offset, bytes)
        : guest.pwrite(offset, pattern(bytes, dice(256)));
  await Promise.resolve(request).catch(() => undefined);
}

async function disturb(job: BackupJob, dice: (limit: number) => number): Promise<void> {
  if (job.isCompleted) return;
  const what = dice(6);
  if (what === 0 && !job.userPaused) job.pause();
  else if (what <= 2 && job.userPaused) job.resume();
  else if (what === 3) job.setSpeed(dice(2) * MiB);
  else if (what === 4) await job.graph.drainAll();
}

it.each(Array.from({ length: 24 }, (_, seed) => seed + 1))(
  "story %i ends with the content of the start",
  async (seed) => {
    const dice = numbers(seed);
    const test = new TestGraph(2 * MiB);
    await test.disk("src", SIZE);
    await test.disk("dst", SIZE);
    for (let i = 0; i < 10; i++) await test.fill("src", 512 * dice(12_000), 512 * (1 + dice(200)), dice(256));
    await test.fill("dst", 0, SIZE, 99);
    const before = await test.content("src");
    shake(test, "src", dice);
    shake(test, "dst", dice);
    const stopping = dice(2) === 0;
    const policy = stopping ? "stop" : "ignore";
    const job = await startBackup(test.graph, {
      "job-id": "j",
      device: "src",
      target: "dst",
      sync: "full",
      "filter-node-name": "flt",
      "auto-finalize": false,
      "on-source-error": policy,
      "on-target-error": policy,
      "x-perf": { "max-workers": 1 + dice(8), "max-chunk": 64 * KiB * (1 + dice(16)) },
    });
    const guest = await test.edge("flt");
    const requests: Promise<void>[] = [];
    for (let i = 0; i < 60; i++) {
      requests.push(guestRequest(guest, dice));
      if (dice(3) === 0) await test.host.clock.turn();
      await disturb(job, dice);
    }
    await test.host.clock.settle(Promise.all(requests));
    for (let i = 0; job.status !== "pending" && i < 5000; i++) {
      if (job.userPaused) job.resume();
      await test.host.clock.step();
    }
    expect(job.status).toBe("pending");
    expect(job.offset).toBe(job.length);
    await test.host.clock.settle(job.finalize());
    const copied = new Uint8Array(SIZE);
    for (let done = false; !done;) {
      const { driver } = test.graph.node("dst");
      done = await Promise.resolve(driver.pread(0, copied, 0)).then(
        () => true,
        () => false,
      );
    }
    expect(test.graph.kernels.firstDifference(before, copied)).toBe(-1);
    expect(test.graph.arena.inUse).toBe(0);
  },
);
