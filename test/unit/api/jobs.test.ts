// Jobs through the library's API, over disks in memory; runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Engine,
  type HostConnection,
  JobCancelledError,
  MirrorJob,
  type Node,
  QmpClient,
  backup,
  commit,
  createEngine,
  createImage,
  mirror,
  openNode,
  serveMonitor,
  stream,
  whenReady,
} from "../../../src/browser.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

const SIZE = 4 * MiB;

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 16 * MiB });
});

afterEach(async () => {
  await engine.close();
});

function disk(name: string, size = SIZE): Promise<Node> {
  return openNode({ driver: "memory", size, discard: "unmap", "node-name": name }, { engine });
}

/** A disk whose write of one sector fails `errno`, once. */
async function failingDisk(name: string, errno: number): Promise<Node> {
  await engine.graph.add({ driver: "memory", size: SIZE, discard: "unmap", "node-name": `${name}-memory` });
  const rule = { event: "none", iotype: "write", errno, sector: MiB / 512, once: true } as const;
  return openNode(
    { driver: "blkdebug", "node-name": name, image: `${name}-memory`, "inject-error": [rule] },
    { engine },
  );
}

async function overlay(name: string, backing: string, size = SIZE): Promise<Node> {
  await engine.graph.add({ driver: "memory", size: 0, "node-name": `${name}-storage` });
  await createImage({ driver: "qcow2", file: `${name}-storage`, size }, { engine });
  return openNode({ driver: "qcow2", "node-name": name, file: `${name}-storage`, backing }, { engine });
}

async function filled(name: string, value: number): Promise<Node> {
  const node = await disk(name);
  await node.write(MiB - 8 * KiB, pattern(256 * KiB, value));
  return node;
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

it("jobs that start side by side without ids get one each", async () => {
  const [a, b, c, d] = await Promise.all([disk("a"), disk("b"), disk("c"), disk("d")]);
  const jobs = await Promise.all([mirror(a, b), mirror(c, d)]);
  expect(jobs.map(({ id }) => id)).toEqual(["mirror0", "mirror1"]);
  for (const job of jobs) await job.cancel();
});

describe("a switch that took place is a success, whatever becomes of the image that was left", () => {
  const broken = {
    driver: "blkdebug" as const,
    "inject-error": [{ event: "none" as const, iotype: "flush" as const, errno: 5 }],
  } satisfies { driver: "blkdebug"; "inject-error": object[] };

  async function switchOver(node: Node, job: MirrorJob): Promise<void> {
    const completed: unknown[] = [];
    engine.graph.events.subscribe(({ event, data }) => {
      if (event === "BLOCK_JOB_COMPLETED") completed.push(data["error"] ?? "well");
    });
    await node.write(4096, new Uint8Array(4096).fill(7));
    await whenReady(job);
    await job.complete();
    const { warnings, cancelled } = await job.done;
    expect([completed, cancelled, node.name]).toEqual([["well"], false, "new"]);
    expect(warnings?.map(({ message }) => message).join()).toContain("Input/output error");
    expect((await node.read(4096, 1))[0]).toBe(7);
  }

  it("mirror", async () => {
    const old = await openNode(
      { ...broken, "node-name": "old", image: { driver: "memory", size: SIZE } },
      { engine },
    );
    const target = await disk("new");
    await switchOver(old, await mirror(old, target));
    await old.close();
    await target.close();
    expect(engine.graph.nodes).toEqual([]);
  });

  it("active commit", async () => {
    await engine.graph.add({ driver: "memory", size: 0, "node-name": "storage" });
    await createImage({ driver: "qcow2", file: "storage", size: SIZE }, { engine });
    const backing = { driver: "memory", size: SIZE, "node-name": "new" } as const;
    const file = { ...broken, image: "storage" };
    const node = await openNode({ driver: "qcow2", "node-name": "old", file, backing }, { engine });
    const job = await commit(node);
    expect(job).toBeInstanceOf(MirrorJob);
    await switchOver(node, job as MirrorJob);
    await node.close();
    expect(engine.graph.nodes.map(({ name }) => name)).toEqual(["storage"]);
  });
});

describe("mirror", () => {
  it("copies, becomes ready, and makes the target take the source's place", async () => {
    const source = await filled("source", 1);
    const target = await disk("target");
    const job = await mirror(source, target);
    expect(job.id).toBe("mirror0");
    await whenReady(job);
    await source.write(3 * MiB, pattern(4096, 9));
    await job.complete();
    expect(await job.done).toMatchObject({ cancelled: false });
    expect(source.name).toBe("target");
    expect(same(await target.read(MiB, 4096), pattern(256 * KiB, 1).subarray(8 * KiB, 12 * KiB))).toBe(true);
    expect(same(await target.read(3 * MiB, 4096), pattern(4096, 9))).toBe(true);
  });

  it("cancelled softly leaves a copy, and the source where it was", async () => {
    const source = await filled("source", 2);
    const target = await disk("target");
    const job = await mirror(source, target, { jobId: "copy", granularity: 64 * KiB, bufferBytes: MiB });
    await whenReady(job);
    await job.cancel({ force: false });
    expect(await job.done).toMatchObject({ cancelled: true });
    expect(source.name).toBe("source");
    expect(same(await target.read(0, SIZE), await source.read(0, SIZE))).toBe(true);
  });

  it("stops at a full target, tells where, and goes on when it is resumed", async () => {
    const source = await filled("source", 3);
    const target = await failingDisk("target", 28);
    const job = await mirror(source, target, { onTargetError: "enospc" });
    const events: string[] = [];
    for await (const event of job) {
      events.push(event.type);
      if (event.type !== "BLOCK_JOB_ERROR") continue;
      expect(event.data).toMatchObject({ operation: "write", action: "stop" });
      break;
    }
    expect([job.ioStatus, job.userPaused]).toEqual(["nospace", true]);
    expect(job.lastFailure).toMatchObject({
      operation: "write",
      code: "ENOSPC",
      node: "target",
      action: "stop",
    });
    const { offset = 0, bytes = 0 } = job.lastFailure ?? {};
    expect(offset <= MiB && offset + bytes > MiB).toBe(true);
    job.resume();
    expect(job.ioStatus).toBe("ok");
    await whenReady(job);
    await job.cancel({ force: false });
    await job.done;
    expect(same(await target.read(0, SIZE), await source.read(0, SIZE))).toBe(true);
  });

  it("ends at once under report", async () => {
    const source = await filled("source", 3);
    const target = await failingDisk("target", 5);
    const job = await mirror(source, target, { onTargetError: "report" });
    expect(await rejection(whenReady(job))).toMatchObject({ code: "EIO" });
    expect(await rejection(job.done)).toMatchObject({ code: "EIO", message: "Input/output error" });
  });

  it("is cancelled by its signal", async () => {
    const source = await filled("source", 3);
    const target = await disk("target");
    const controller = new AbortController();
    const job = await mirror(source, target, { signal: controller.signal, speedBytesPerSecond: 1 });
    controller.abort();
    expect(await rejection(job.done)).toBeInstanceOf(JobCancelledError);
    expect(engine.jobs.jobs).toEqual([]);
  });

  it("refuses nodes of two engines, and a used id, in plain words", async () => {
    await using other = createEngine({ arenaBytes: MiB });
    const source = await filled("source", 3);
    const stranger = await openNode({ driver: "memory", size: SIZE }, { engine: other });
    expect(await rejection(mirror(source, stranger))).toMatchObject({ code: "EINVAL" });
    await stranger.close();
    const target = await disk("target");
    const second = await disk("second");
    const job = await mirror(source, target, { jobId: "j", speedBytesPerSecond: 1 });
    await expect(mirror(second, await disk("third"), { jobId: "j" })).rejects.toThrow(
      "Job ID 'j' already in use",
    );
    await job.cancel();
    await rejection(job.done);
  });

  it("lends the target's permission to the job, and takes it back afterwards", async () => {
    const source = await filled("source", 4);
    const target = await disk("target");
    await target.write(0, pattern(512, 1));
    const job = await mirror(source, target);
    await whenReady(job);
    expect(await rejection(target.write(0, pattern(512, 1)))).toMatchObject({ code: "EPERM" });
    await job.cancel({ force: false });
    await job.done;
    await target.write(0, pattern(512, 1));
  });
});

describe("the other jobs", () => {
  it("backup keeps the state of its start", async () => {
    const source = await filled("source", 5);
    const before = await source.read(0, SIZE);
    const target = await disk("target");
    const job = await backup(source, target, { maxWorkers: 2 });
    await source.write(MiB, pattern(64 * KiB, 77));
    expect(await job.done).toMatchObject({ offset: SIZE, length: SIZE });
    expect(same(await target.read(0, SIZE), before)).toBe(true);
  });

  it("stream makes an overlay independent", async () => {
    const base = await filled("base", 6);
    const top = await overlay("top", "base");
    const before = await base.read(0, SIZE);
    expect(top.chain.map(({ name }) => name)).toEqual(["top", "base"]);
    const job = await stream(top);
    await job.done;
    expect(top.chain.map(({ name }) => name)).toEqual(["top"]);
    expect(same(await top.read(0, SIZE), before)).toBe(true);
  });

  it("commit of the active image is a mirror into the base, completed by hand", async () => {
    const base = await filled("base", 7);
    const top = await overlay("top", "base");
    await top.write(2 * MiB, pattern(64 * KiB, 8));
    const before = await top.read(0, SIZE);
    const job = await commit(top);
    expect(job).toBeInstanceOf(MirrorJob);
    await whenReady(job);
    await job.complete();
    await job.done;
    expect(top.name).toBe("base");
    expect(same(await base.read(0, SIZE), before)).toBe(true);
  });

  it("commit of an image between drops it", async () => {
    const base = await filled("base", 7);
    const mid = await overlay("mid", "base");
    await mid.write(2 * MiB, pattern(64 * KiB, 8));
    await mid.close().catch(() => undefined);
    const top = await overlay("top", "mid").catch(() => undefined);
    // Closing the only handle of `mid` closed it: a chain is held by its top.
    expect(top).toBeUndefined();
    const again = await openNode(
      { driver: "qcow2", "node-name": "mid", file: "mid-storage", backing: "base" },
      { engine },
    );
    const active = await overlay("active", "mid");
    const before = await active.read(0, SIZE);
    const job = await commit(active, { topNode: again, baseNode: "base" });
    await job.done;
    expect(active.chain.map(({ name }) => name)).toEqual(["active", "base"]);
    expect(same(await active.read(0, SIZE), before)).toBe(true);
    expect(same(await base.read(2 * MiB, 64 * KiB), pattern(64 * KiB, 8))).toBe(true);
  });
});

/** Two ends of a connection in memory. */
function pipe(): [HostConnection, HostConnection] {
  const [a, b] = [
    new TransformStream<Uint8Array, Uint8Array>(),
    new TransformStream<Uint8Array, Uint8Array>(),
  ];
  const end = (from: typeof a, to: typeof a): HostConnection => {
    const writer = to.writable.getWriter();
    const reader = from.readable.getReader();
    return {
      incoming: (async function* () {
        for (let next = await reader.read(); next.value; next = await reader.read()) yield next.value;
      })(),
      write: (bytes) => writer.write(bytes),
      close: async () => {
        await Promise.allSettled([writer.close(), reader.cancel()]);
      },
    };
  };
  return [end(a, b), end(b, a)];
}

describe("QMP", () => {
  it("drives the same engine", async () => {
    const [server, peer] = pipe();
    const served = serveMonitor(server, engine);
    {
      await using client = await QmpClient.connect(peer);
      await client.execute("blockdev-add", { driver: "null-co", "node-name": "n0", size: 1024 });
      const nodes = await client.execute("query-named-block-nodes");
      expect(nodes.map((node) => node["node-name"])).toEqual(["n0"]);
      await using node = await openNode({ driver: "raw", file: "n0" }, { engine });
      expect(node.length).toBe(1024);
    }
    await served;
  });
});
