// An error costs its granule: a bad place of a disk, in the middle of what each job copies at once. All else is copied, and
// the granule alone is told, passed over, and tried again.
import { describe, expect, test } from "vitest";
import type { BlockJob } from "../../../src/job/core/block-job.ts";
import { KiB, MiB, same } from "../support/graph.ts";
import { setup } from "./backup-support.ts";
import { Chain } from "./chain.ts";
import { clusterBytes } from "./cow-format.ts";
import { type Faults, bench, guest } from "./mirror-support.ts";

const granule = 64 * KiB;
/** The bad place of the disks: the granule at 2 MiB. */
const bad = 2 * MiB;
const faults = (operation: string): Faults => [
  { event: "none", iotype: operation, errno: 5, sector: (bad + 4096) / 512, once: false },
];

const sides = [
  ["source", "read"],
  ["target", "write"],
] as const;

interface Bed {
  job: BlockJob;
  dirtyBytes: () => number;
  /** Offsets of granules in which the target differs from the source. */
  missing: () => Promise<number[]>;
  errors: () => string[];
  settle: <T>(promise: T | Promise<T>) => Promise<T>;
  idle: (turns?: number) => Promise<void>;
  /** Steps the clock until a time, ms. */
  until: (ms: number) => Promise<void>;
}

async function bed(kind: "mirror" | "backup", side: "source" | "target", policy: string): Promise<Bed> {
  const operation = side === "source" ? "read" : "write";
  const made =
    kind === "mirror"
      ? await bench({ [side]: faults(operation) })
      : await setup({ faults: { [side]: faults(operation) } });
  const job = await made.start({ [`on-${side}-error`]: policy });
  const { test: world, events } = made;
  const { clock } = world.host;
  return {
    job,
    dirtyBytes: () => job.length - job.offset,
    missing: async () => {
      const [a, b] = [await world.content("src"), await world.content("dst")];
      const all = Array.from({ length: a.byteLength / granule }, (_, i) => i * granule);
      return all.filter((at) => !same(a.subarray(at, at + granule), b.subarray(at, at + granule)));
    },
    errors: () => events.filter((event) => event.startsWith("error ")),
    settle: (promise) => made.settle(promise),
    idle: async (turns = 30) => {
      for (let turn = 0; turn < turns; turn++) await clock.idle();
    },
    until: async (ms) => {
      while (clock.nowMs() < ms) await clock.step();
    },
  };
}

describe.each(["mirror", "backup"] as const)("%s", (kind) => {
  describe.each(sides)("with a bad granule of its %s", (side, operation) => {
    test("under stop: paused with all else copied, and only the granule is tried again", async () => {
      const { job, ...made } = await bed(kind, side, "stop");
      await made.idle();
      expect(job.status).toBe("paused");
      expect(made.errors()).toEqual([`error ${operation} stop`]);
      expect(job.lastFailure).toMatchObject({ operation, offset: bad, bytes: granule });
      expect(made.dirtyBytes()).toBe(granule);
      expect(await made.missing()).toEqual([bad]);
      job.resume();
      await made.idle();
      expect(made.errors()).toHaveLength(2);
      expect([job.status, made.dirtyBytes()]).toEqual(["paused", granule]);
      expect(job.length).toBe(4 * MiB);
      await made.settle(job.cancel().catch(() => undefined));
    });

    test("under ignore: all else is copied, and the granule is tried again and again", async () => {
      const { job, ...made } = await bed(kind, side, "ignore");
      await made.until(20_000);
      expect(made.errors().length).toBeGreaterThan(10);
      expect(new Set(made.errors())).toEqual(new Set([`error ${operation} ignore`]));
      expect(job.lastFailure).toMatchObject({ operation, offset: bad, bytes: granule });
      expect([made.dirtyBytes(), job.length]).toEqual([granule, 4 * MiB]);
      expect(await made.missing()).toEqual([bad]);
      await made.settle(job.cancel().catch(() => undefined));
    });

    test("under report: ends at once, and nothing of the piece is tried again", async () => {
      const { job, ...made } = await bed(kind, side, "report");
      await expect(made.settle(job.done)).rejects.toMatchObject({ code: "EIO" });
      expect(made.errors()).toEqual([`error ${operation} report`]);
      expect(job.lastFailure!.bytes).toBeGreaterThan(granule);
      expect(await made.missing()).toContain(bad + granule);
    });
  });
});

describe("a write-blocking mirror", () => {
  test("brings all of a guest's write to the target but the granule that fails", async () => {
    const made = await bench({ target: faults("write") });
    const backend = await guest(made.test);
    const args = { sync: "none", "copy-mode": "write-blocking", "on-target-error": "stop" } as const;
    const job = await made.start(args);
    await made.ready(job);
    const at = bad - granule;
    const data = new Uint8Array(3 * granule + 4096).fill(7);
    await backend.pwrite(at, data);
    await made.test.host.clock.idle();
    expect([job.status, job.ioStatus, job.bitmap.dirtyBytes]).toEqual(["standby", "failed", granule]);
    expect(job.lastFailure).toMatchObject({ operation: "write", offset: bad, bytes: granule });
    const there = await made.test.content("dst", at, data.byteLength);
    expect(same(there.subarray(0, granule), data.subarray(0, granule))).toBe(true);
    expect(there.subarray(granule, 2 * granule).some((byte) => byte === 7)).toBe(false);
    expect(same(there.subarray(2 * granule), data.subarray(2 * granule))).toBe(true);
    await made.settle(job.cancel().catch(() => undefined));
    await backend.close();
  });
});

/** A chain whose `mid` holds the clusters 4 to 6, too. */
async function chainWithRun(): Promise<Chain> {
  const chain = new Chain();
  for (const cluster of [4, 5, 6]) {
    const bytes = new Uint8Array(clusterBytes).fill(0x40 + cluster);
    chain.mid.clusters.set(cluster, bytes);
    chain.seen.set(bytes, cluster * clusterBytes);
  }
  return chain.open();
}

describe.each(["stream", "commit"] as const)("%s", (kind) => {
  const images = (chain: Chain) =>
    kind === "stream" ? { source: chain.mid, target: chain.top } : { source: chain.mid, target: chain.base };
  const place = { offset: 5 * clusterBytes, bytes: clusterBytes };

  describe.each(sides)("with a bad cluster of its %s", (side, operation) => {
    const told = kind === "stream" ? "read" : operation;

    test("under stop: paused with its neighbours copied, and only the cluster is tried again", async () => {
      const chain = await chainWithRun();
      const { [side]: image, target } = images(chain);
      image.faults.push({ op: operation, code: "EIO", once: false, cluster: 5 });
      const job = await chain[kind]({ "on-error": "stop" });
      for (let turn = 0; turn < 5; turn++) await chain.idle();
      expect([job.status, job.lastFailure?.operation]).toEqual(["paused", told]);
      if (kind === "commit") expect(job.lastFailure).toMatchObject(place);
      expect([4, 5, 6].filter((cluster) => target.clusters.has(cluster))).toEqual([4, 6]);
      image.faults.length = 0;
      const writes = target.log.filter((entry) => entry === "write").length;
      job.resume();
      expect(await chain.run(job)).not.toBeInstanceOf(Error);
      expect(target.log.filter((entry) => entry === "write")).toHaveLength(writes + 1);
      expect(chain.log.filter((event) => event === "BLOCK_JOB_ERROR")).toHaveLength(1);
      expect(await chain.firstDifference()).toBe(-1);
    });

    test("under report: ends at once, and nothing is tried again", async () => {
      const chain = await chainWithRun();
      const { [side]: image, target } = images(chain);
      image.faults.push({ op: operation, code: "EIO", once: false, cluster: 5 });
      const job = await chain[kind]({ "on-error": "report" });
      expect(await chain.run(job)).toMatchObject({ code: "EIO" });
      expect(job.lastFailure!.bytes).toBeGreaterThan(clusterBytes);
      expect(target.clusters.has(6)).toBe(false);
    });
  });
});

test("a stream under ignore passes over the bad cluster alone, and fails at its end", async () => {
  const chain = await chainWithRun();
  chain.mid.faults.push({ op: "read", code: "EIO", once: false, cluster: 5 });
  const job = await chain.stream({ "on-error": "ignore" });
  expect(await chain.run(job)).toMatchObject({ code: "EIO" });
  expect([job.offset, job.length]).toEqual([2 * MiB, 2 * MiB]);
  expect(chain.log.filter((event) => event === "BLOCK_JOB_ERROR")).toHaveLength(1);
  expect([...chain.top.clusters.keys()].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 6, 9, 31]);
  expect(chain.node("top").backing?.node.name).toBe("mid");
  chain.mid.faults.length = 0;
  expect(await chain.firstDifference()).toBe(-1);
});

test("a commit under ignore copies all else while the bad cluster is tried again, and ends well once it can be read", async () => {
  const chain = await chainWithRun();
  chain.mid.faults.push({ op: "read", code: "EIO", once: false, cluster: 5 });
  const job = await chain.commit({ "on-error": "ignore" });
  const { clock } = chain.test.host;
  while (clock.nowMs() < 5000) await clock.step();
  expect([2, 4, 5, 6, 9].filter((cluster) => chain.base.clusters.has(cluster))).toEqual([2, 4, 6, 9]);
  expect(job.lastFailure).toMatchObject({ operation: "read", offset: 5 * clusterBytes, bytes: clusterBytes });
  chain.mid.faults.length = 0;
  expect(await chain.run(job)).not.toBeInstanceOf(Error);
  expect(await chain.firstDifference()).toBe(-1);
});
