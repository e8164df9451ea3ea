// The mirror: what each sync copies, its arguments, readiness and its ends, active commit.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { drained } from "../../../src/block/model/drain.ts";
import { startActiveCommit } from "../../../src/job/commit/active-commit.ts";
import type { MirrorJob } from "../../../src/job/mirror/job.ts";
import { KiB, MiB, pattern } from "../support/graph.ts";
import { addProbe } from "../support/probe.ts";
import { clusterBytes, images, makeImage } from "./cow-format.ts";
import { type Args, type Bench, bench, expectGone, guest } from "./mirror-support.ts";

const FULL = `${4 * MiB}/${4 * MiB}`;

describe("sync=full", () => {
  test("everything is copied, and the target takes the source's place when completed", async () => {
    const made = await bench();
    const backend = await guest(made.test);
    const job = await made.start();
    await made.ready(job);
    expect(await made.test.difference("src", "dst")).toBe(-1);
    await job.complete();
    await made.settle(job.done);
    expect(made.events).toEqual([
      "created",
      "running",
      "ready",
      `READY ${FULL}`,
      "waiting",
      "pending",
      `COMPLETED ${FULL}`,
      "concluded",
      "null",
    ]);
    expect(backend.node?.name).toBe("dst");
    await backend.close();
    expectGone(made);
  });

  test("holes are not written", async () => {
    const made = await bench({ size: 64 * MiB });
    await made.test.graph.node("src").driver.pdiscard!(MiB, 62 * MiB);
    const job = await made.start();
    await made.ready(job);
    expect(await made.test.graph.node("dst").driver.allocatedBytes!()).toBe(2 * MiB);
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
  });

  test("what a guest writes meanwhile arrives, and after READY too", async () => {
    const made = await bench();
    const backend = await guest(made.test);
    const job = await made.start({ speed: 4 * MiB, granularity: 4096 });
    const { random } = made.test.host;
    for (let i = 0; i < 60; i++) {
      const offset = random.below(4 * MiB - 9000);
      if (i % 7 === 3) await made.settle(backend.pwriteZeroes(offset, 1 + random.below(9000)));
      else if (i % 7 === 5) await made.settle(backend.pdiscard(offset, 1 + random.below(9000)));
      else await made.settle(backend.pwrite(offset, pattern(1 + random.below(9000), i)));
      if (i % 5 === 0) await made.test.host.clock.step();
    }
    await made.ready(job);
    await made.settle(backend.pwrite(12_345, pattern(777, 9)));
    await job.complete();
    await made.settle(job.done);
    expect(await made.test.difference("src", "dst")).toBe(-1);
    await backend.close();
  });

  test("an empty disk is ready at once", async () => {
    const made = await bench({ size: 0 });
    const job = await made.start();
    await made.test.host.clock.idle();
    expect(made.events.slice(-2)).toEqual(["ready", "READY 0/0"]);
    await job.complete();
    await made.settle(job.done);
    expect(made.events.at(-3)).toBe("COMPLETED 0/0");
    expectGone(made);
  });

  test.each([
    ["smaller", 2 * MiB],
    ["larger", 8 * MiB],
  ])("a %s target fails the job, and no policy is asked", async (_name, dstSize) => {
    const made = await bench({ dstSize });
    const job = await made.start({ "on-target-error": "stop" });
    await expect(made.settle(job.done)).rejects.toThrow("Source and target image have different sizes");
    expect(made.events.some((event) => event.startsWith("error"))).toBe(false);
    expectGone(made);
  });
});

describe("other syncs", () => {
  async function overlay(made: Bench): Promise<void> {
    makeImage("base", 4 * clusterBytes).clusters.set(0, new Uint8Array(clusterBytes).fill(1));
    makeImage("top", 4 * clusterBytes).clusters.set(2, new Uint8Array(clusterBytes).fill(2));
    await made.test.graph.add({ driver: "cow", "node-name": "base", backing: null });
    await made.test.graph.add({ driver: "cow", "node-name": "top", backing: "base" });
    await made.test.disk("out", 4 * clusterBytes);
  }

  test("top copies what lies above the backing file, full all of it", async () => {
    const made = await bench();
    await overlay(made);
    const job = await made.start({ device: "top", target: "out", sync: "top" });
    await made.ready(job);
    const copied = await made.test.content("out");
    expect([copied[0], copied[2 * clusterBytes]]).toEqual([0, 2]);
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
    const all = await made.start({ device: "top", target: "out", sync: "full" });
    await made.ready(all);
    expect((await made.test.content("out"))[0]).toBe(1);
    await all.cancel();
    await made.settle(all.done.catch(() => undefined));
  });

  test("none is ready at once, and copies only what is written later", async () => {
    const made = await bench();
    const backend = await guest(made.test);
    const job = await made.start({ sync: "none" });
    await made.test.host.clock.idle();
    expect(made.events.slice(-2)).toEqual(["ready", "READY 0/0"]);
    await backend.pwrite(MiB, new Uint8Array(100).fill(7));
    await job.complete();
    await made.settle(job.done);
    const copied = await made.test.content("dst");
    expect([copied[0], copied[MiB]]).toEqual([0, 7]);
    await backend.close();
  });
});

describe("arguments", () => {
  test.each([
    [{ "job-id": undefined }, "Invalid job ID ''"],
    [{ sync: "bitmap" }, "Sync mode 'bitmap' not supported"],
    [{ sync: "incremental" }, "Sync mode 'incremental' not supported"],
    [{ granularity: 1000 }, "Parameter 'granularity' expects a power of 2"],
    [{ granularity: 256 }, "Parameter 'granularity' expects a value in range [512B, 64MB]"],
    [{ granularity: 128 * MiB }, "Parameter 'granularity' expects a value in range [512B, 64MB]"],
    [{ "buf-size": -1 }, "Invalid parameter 'buf-size'"],
    [{ device: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ target: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ target: "src" }, "Can't mirror node into itself"],
    [{ speed: -1 }, "Parameter 'speed' expects a non-negative value"],
    [{ replaces: "nope" }, "Failed to find node with node-name='nope'"],
    [{ "filter-node-name": "dst" }, "Duplicate nodes with node-name='dst'"],
  ] as [Partial<Args>, string][])("%o: %s", async (args, message) => {
    const made = await bench();
    const before = made.test.graph.nodes.map((node) => node.name);
    await expect(made.start(args)).rejects.toThrow(message);
    expect(made.test.graph.nodes.map((node) => node.name)).toEqual(before);
    expectGone(made);
  });

  test("a second mirror of one source, and one into a busy target", async () => {
    const made = await bench();
    const job = await made.start();
    await expect(made.start({ "job-id": "k" })).rejects.toThrow("Need a root block node");
    await made.test.disk("other", 4 * MiB);
    await expect(made.start({ "job-id": "k", device: "other" })).rejects.toThrow(
      "Node 'dst' is busy: block device is in use by block job: mirror",
    );
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
    expectGone(made);
  });

  test.each([512, 64 * KiB, MiB])("granularity %d and a small buffer copy the same", async (granularity) => {
    const made = await bench({ size: 2 * MiB + 1536 });
    const job = await made.start({ granularity, "buf-size": 4096 });
    await made.ready(job);
    expect(await made.test.difference("src", "dst")).toBe(-1);
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
  });
});

describe("ends", () => {
  test("a soft cancel after READY finishes the copy, leaves the source in place and is no error", async () => {
    const made = await bench();
    const backend = await guest(made.test);
    const job = await made.start();
    await made.ready(job);
    await backend.pwrite(MiB, new Uint8Array(4096).fill(0x77));
    await job.blockJobCancel(false);
    expect(await made.settle(job.done)).toMatchObject({ cancelled: true });
    expect(made.events.slice(-5)).toEqual([
      "waiting",
      "pending",
      `COMPLETED ${4 * MiB + 64 * KiB}/${4 * MiB + 64 * KiB}`,
      "concluded",
      "null",
    ]);
    expect(backend.node?.name).toBe("src");
    expect(await made.test.difference("src", "dst")).toBe(-1);
    await backend.close();
    expectGone(made);
  });

  test("a hard cancel after READY, or any before, is a cancel", async () => {
    for (const [before, force] of [
      [true, false],
      [false, true],
    ]) {
      const made = await bench();
      const job = await made.start({ speed: MiB });
      if (!before) {
        job.setSpeed(0);
        await made.ready(job);
      }
      await job.blockJobCancel(force!);
      await expect(made.settle(job.done)).rejects.toThrow("Operation canceled");
      expect(made.events.at(-4)).toBe("aborting");
      expect(made.events.at(-3)).toMatch(/^CANCELLED /);
      expectGone(made);
    }
  });

  test("complete is refused before READY", async () => {
    const made = await bench();
    const job = await made.start({ speed: MiB });
    await expect(job.complete()).rejects.toThrow(
      "Job 'j' in state 'running' cannot accept command verb 'complete'",
    );
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
  });

  test("complete in standby is accepted, and acted on after the resume", async () => {
    const made = await bench();
    const job = await made.start();
    await made.ready(job);
    job.pause();
    await made.test.host.clock.idle();
    expect(job.status).toBe("standby");
    await job.complete();
    for (let i = 0; i < 5; i++) await made.test.host.clock.step();
    expect(job.status).toBe("standby");
    job.resume();
    await made.settle(job.done);
    expectGone(made);
  });

  test("a pause in the middle of the copy stops it; resume finishes", async () => {
    const made = await bench();
    const job = await made.start({ speed: MiB, "buf-size": MiB });
    await made.test.host.clock.step();
    job.pause();
    for (let i = 0; i < 5; i++) await made.test.host.clock.step();
    const { offset } = job;
    expect([job.status, offset < 4 * MiB]).toEqual(["paused", true]);
    for (let i = 0; i < 5; i++) await made.test.host.clock.step();
    expect(job.offset).toBe(offset);
    job.resume();
    await made.ready(job);
    expect(await made.test.difference("src", "dst")).toBe(-1);
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
  });

  test("drains of source and target in the middle lose nothing", async () => {
    const made = await bench();
    const backend = await guest(made.test);
    const job = await made.start({ speed: 2 * MiB });
    const [src, dst] = [made.test.graph.node("src"), made.test.graph.node("dst")];
    for (let i = 0; i < 10; i++) {
      const value = i + 1;
      await made.settle(drained(i % 2 ? [src] : [dst, src], () => undefined));
      await made.settle(backend.pwrite(i * 300_000, new Uint8Array(1000).fill(value)));
      await made.test.host.clock.step();
    }
    await made.ready(job);
    await job.complete();
    await made.settle(job.done);
    expect(await made.test.difference("src", "dst")).toBe(-1);
    await backend.close();
    expectGone(made);
  });

  test("`replaces` names a node below the source that the target replaces", async () => {
    const made = await bench();
    const filter = { driver: "blkdebug", "node-name": "filter", image: "src" };
    await made.test.graph.add(filter);
    const backend = await guest(made.test, "filter");
    const job = await made.start({ device: "filter", replaces: "src" });
    await made.ready(job);
    await job.complete();
    await made.settle(job.done);
    expect([backend.node?.name, made.test.graph.node("filter").filtered?.node.name]).toEqual([
      "filter",
      "dst",
    ]);
    await backend.close();
    expectGone(made);
  });

  test("an error while the job ends after complete is told, and the source stays", async () => {
    const made = await bench();
    const { node, driver } = await addProbe(made.test.graph, {
      "node-name": "probe",
      size: 4 * MiB,
      discard: "unmap",
    });
    const backend = await guest(made.test);
    const job = await made.start({ target: "probe" });
    await made.ready(job);
    driver.before = ({ op }) => {
      if (op === "pwrite" || op === "flush") throw blockError("ENOSPC", op);
    };
    await backend.pwrite(0, new Uint8Array(512).fill(1));
    await job.complete();
    await expect(made.settle(job.done)).rejects.toThrow("No space left on device");
    expect(backend.node?.name).toBe("src");
    expect(node.parents.size).toBe(0);
    await backend.close();
    expectGone(made);
  });
});

describe("active commit", () => {
  async function commitBench(baseClusters: number): Promise<Bench> {
    const made = await bench();
    const base = makeImage("base", baseClusters * clusterBytes);
    base.clusters.set(0, new Uint8Array(clusterBytes).fill(1));
    makeImage("mid", 4 * clusterBytes).clusters.set(1, new Uint8Array(clusterBytes).fill(2));
    makeImage("top", 4 * clusterBytes).clusters.set(3, new Uint8Array(clusterBytes).fill(4));
    for (const [name, backing] of [
      ["base", null],
      ["mid", "base"],
      ["top", "mid"],
    ] as const)
      await made.test.graph.add({ driver: "cow", "node-name": name, backing });
    return made;
  }

  async function commit(made: Bench): Promise<MirrorJob> {
    const { graph } = made.test;
    return startActiveCommit(graph, {
      id: "j",
      top: graph.node("top"),
      base: graph.node("base"),
      speed: 0,
      onError: "report",
      filterNodeName: undefined,
      autoFinalize: undefined,
      autoDismiss: undefined,
    });
  }

  test.each([
    ["as long", 4],
    ["shorter", 2],
  ])("into a base that is %s: the base takes the top's place", async (_name, clusters) => {
    const made = await commitBench(clusters);
    const backend = await guest(made.test, "top");
    const job = await commit(made);
    await made.ready(job);
    await backend.pwrite(2 * clusterBytes, new Uint8Array(clusterBytes).fill(3));
    await job.complete();
    await made.settle(job.done);
    expect(backend.node?.name).toBe("base");
    const buffer = new Uint8Array(4 * clusterBytes);
    await backend.pread(0, buffer);
    expect([0, 1, 2, 3].map((index) => buffer[index * clusterBytes])).toEqual([1, 2, 3, 4]);
    expect([...images.get("base")!.clusters.keys()].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3]);
    await backend.close();
    expectGone(made);
  });

  test("cancelled, it leaves the chain as it was", async () => {
    const made = await commitBench(4);
    const job = await commit(made);
    await made.ready(job);
    expect(() => made.test.graph.node("mid").checkBlocked("stream")).toThrow(
      "Node 'mid' is busy: block device is in use by block job: commit",
    );
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
    const { graph } = made.test;
    expect([graph.node("top").backing?.node.name, graph.node("mid").backing?.node.name]).toEqual([
      "mid",
      "base",
    ]);
    expect(graph.node("top").backing?.frozen).toBe(false);
  });
});
