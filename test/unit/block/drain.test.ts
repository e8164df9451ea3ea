// Drained sections: they wait for what is under way, hold back users, nest, and end well whatever happens inside.
import { describe, expect, test } from "vitest";
import { settleBitmaps } from "../../../src/block/bitmap/persistence.ts";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import { drained, drainedSection, unquiesce } from "../../../src/block/model/drain.ts";
import { startBackup } from "../../../src/job/backup/backup.ts";
import { startMirror } from "../../../src/job/mirror/mirror.ts";
import { mirrorTop } from "../../../src/job/mirror/top.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { type ProbeDriver, addProbe } from "../support/probe.ts";

interface Bench {
  test: TestGraph;
  node: BlockNode;
  driver: ProbeDriver;
  backend: BlockBackend;
  /** Lets the requests that the driver holds go on. */
  release: () => void;
}

async function bench(): Promise<Bench> {
  const test = new TestGraph();
  const { node, driver } = await addProbe(test.graph, { "node-name": "n", size: MiB });
  const raw = await test.graph.add({ driver: "raw", "node-name": "r", file: "n" });
  const backend = new BlockBackend(test.graph, "d0");
  await backend.attach(raw, guestPermissions);
  const held: (() => void)[] = [];
  driver.before = (call) =>
    call.op === "pwrite" ? new Promise<void>((resolve) => held.push(resolve)) : undefined;
  const release = (): void => {
    driver.before = undefined;
    for (const go of held.splice(0)) go();
  };
  return { test, node, driver, backend, release };
}

describe("a section", () => {
  test("waits for requests under way below any of its users, and holds new ones back", async () => {
    const { test, node, driver, backend, release } = await bench();
    const first = backend.pwrite(0, new Uint8Array(512));
    await test.host.clock.idle();
    let inside = false;
    const section = drained([node], async () => {
      inside = true;
      expect(node.inFlight).toBe(0);
      const late = Promise.resolve(backend.pwrite(512, new Uint8Array(512))).then(() =>
        expect(inside).toBe(false),
      );
      await test.host.clock.idle();
      inside = false;
      return { late };
    });
    await test.host.clock.idle();
    expect(inside).toBe(false);
    release();
    await first;
    const { late } = await section;
    await late;
    expect(driver.take()).toEqual(["pwrite 0+512", "pwrite 512+512"]);
  });

  test("a request that the disk became too short for meanwhile is out of range, and no broken assertion", async () => {
    const { test, node, backend, release } = await bench();
    release();
    const section = await drainedSection(node);
    const late = Promise.allSettled(
      [
        backend.pwrite(node.length - 512, new Uint8Array(512)),
        backend.pread(node.length - 512, new Uint8Array(512)),
        backend.pwriteZeroes(node.length - 512, 512),
      ].map((request) => Promise.resolve(request)),
    );
    await node.driver.truncate!(node.length - 512, { exact: true, preallocation: "off" });
    node.updateLength();
    await section.end();
    for (const result of await test.host.clock.settle(late))
      expect(result).toMatchObject({ status: "rejected", reason: { name: "BlockError", code: "EIO" } });
  });

  test("nests: only the last end lets requests go on", async () => {
    const { test, node, backend, release } = await bench();
    release();
    const first = await drainedSection(node);
    const second = await drainedSection(node);
    let done = false;
    const write = Promise.resolve(backend.pwrite(0, new Uint8Array(512))).then(() => (done = true));
    await first.end();
    await first.end();
    await test.host.clock.idle();
    expect(done).toBe(false);
    await second.end();
    await write;
    expect(() => unquiesce(node)).toThrow("ended without a beginning");
  });

  test("of several nodes holds them all, also in each other's sections", async () => {
    const { test, node, backend, release } = await bench();
    release();
    const raw = test.graph.node("r");
    await drained([node, raw, node], () => drained([raw], () => expect(raw.quiesceCounter).toBe(3)));
    expect([node.quiesceCounter, raw.quiesceCounter]).toEqual([0, 0]);
    await backend.pwrite(0, new Uint8Array(1));
  });

  test("ends when its body throws", async () => {
    const { node, backend, release } = await bench();
    release();
    await expect(drained([node], () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    await backend.pwrite(0, new Uint8Array(1));
  });

  test("holds a user back that is attached in it", async () => {
    const { test, node } = await bench();
    const section = await drainedSection(node);
    const { node: other } = await addProbe(test.graph, { "node-name": "o", size: MiB });
    const filter = await test.graph.add({ driver: "blkdebug", "node-name": "f", image: "n" });
    const late = new BlockBackend(test.graph);
    await late.attach(filter, { perm: 1, shared: 15 });
    let done = false;
    const read = Promise.resolve(late.pread(0, new Uint8Array(1))).then(() => (done = true));
    await test.host.clock.idle();
    expect([done, filter.quiesceCounter, other.quiesceCounter]).toEqual([false, 1, 0]);
    await section.end();
    await read;
    await late.close();
  });

  test("a user that leaves in it is not held any more elsewhere", async () => {
    const { test, node, backend } = await bench();
    const { node: other } = await addProbe(test.graph, { "node-name": "o", size: MiB });
    await drained([node], async () => {
      await backend.close();
      await backend.attach(other, guestPermissions);
      await backend.pwrite(0, new Uint8Array(1));
    });
    expect(test.graph.node("r").parents.size).toBe(0);
  });
});

describe("jobs", () => {
  test("a job over the node pauses for the section and goes on after it", async () => {
    const test = new TestGraph();
    const src = await test.disk("src", 4 * MiB);
    await test.disk("dst", 4 * MiB);
    await test.fill("src", 0, 4 * MiB);
    const job = await startBackup(test.graph, {
      "job-id": "j",
      device: "src",
      target: "dst",
      sync: "full",
      speed: MiB,
    });
    await test.host.clock.idle();
    await drained([src], () => {
      expect([job.paused || !job.busy, job.pauseCount > 0]).toEqual([true, true]);
    });
    expect(job.pauseCount).toBe(0);
    await test.host.clock.settle(job.done);
    expect(await test.difference("src", "dst")).toBe(-1);
  });

  test("one that ends while its nodes are drained does not hang the section, nor the section it", async () => {
    const test = new TestGraph();
    test.graph.register(mirrorTop);
    const src = await test.disk("src", MiB);
    const dst = await test.disk("dst", MiB);
    await test.fill("src", 0, MiB);
    const job = await startMirror(test.graph, { "job-id": "j", device: "src", target: "dst", sync: "full" });
    while (!job.isReady) await test.host.clock.step();
    await drained([src, dst], async () => {
      void job.complete();
      await test.host.clock.idle();
    });
    await test.host.clock.settle(job.done);
    expect(jobsOf(test.graph).jobs).toEqual([]);
    const next = await startMirror(test.graph, { "job-id": "j", device: "dst", target: "src", sync: "full" });
    while (!next.isReady) await test.host.clock.step();
    const cancelled = drained([src, dst], () => next.cancel());
    await test.host.clock.settle(cancelled);
    await test.host.clock.settle(next.done.catch(() => undefined));
    expect([src, dst].map((node) => [node.quiesceCounter, node.parents.size])).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });

  test("drainAll leaves everything as it was", async () => {
    const { test, backend, release } = await bench();
    release();
    await test.graph.drainAll();
    expect(test.graph.nodes.every((node) => node.quiesceCounter === 0)).toBe(true);
    await backend.flush();
  });
});

test("bitmaps that can't be settled keep no later drain waiting", async () => {
  const graph = new TestGraph();
  const { node } = await addProbe(graph.graph, { "node-name": "n", size: MiB });
  const failed = (): Promise<void> => Promise.reject(new Error("no room for the journal"));
  node.writeAhead = {
    cover: () => undefined,
    changed: () => undefined,
    settle: failed,
    resizing: (_range, body) => body(),
  };
  await expect(settleBitmaps([node])).rejects.toThrow("no room for the journal");
  expect(node.inFlight).toBe(0);
  await drained([node], () => undefined);
});
