// The copy engine over memory nodes: what it copies, what it leaves out, what a failure leaves dirty.
import { describe, expect, it } from "vitest";
import {
  BlockCopy,
  type BlockCopyOptions,
  CopyError,
  RangeCopier,
} from "../../../src/block/copy/block-copy.ts";
import type { Child } from "../../../src/block/model/node.ts";
import { Bitmap } from "../../../src/kernels/bitmap.ts";
import { KiB, MiB, TestGraph } from "../support/graph.ts";

const EIO = 5;
const ENOSPC = 28;

interface Setup {
  test: TestGraph;
  source: Child;
  target: Child;
}

async function setup(
  size: number,
  faults: { source?: Record<string, unknown>[]; target?: Record<string, unknown>[] } = {},
): Promise<Setup> {
  const test = new TestGraph();
  const source = await test.edge(await test.disk("src", size, faults.source));
  const target = await test.edge(await test.disk("dst", size, faults.target));
  return { test, source, target };
}

function blockCopy({ test, source, target }: Setup, more: Partial<BlockCopyOptions> = {}): BlockCopy {
  const { arena, kernels, host } = test.graph;
  return new BlockCopy({ source, target, arena, kernels, clock: host.clock, ...more });
}

function copier({ test, source, target }: Setup, more: object = {}): RangeCopier {
  return new RangeCopier({ source, target, arena: test.graph.arena, kernels: test.graph.kernels, ...more });
}

/** Records the requests that reach a node's driver. */
function spy(child: Child): string[] {
  const seen: string[] = [];
  const { driver } = child.node;
  const { pread, pwrite, pwriteZeroes } = driver;
  driver.pread = (offset, buffer, flags) => {
    seen.push(`read ${offset / KiB}+${buffer.byteLength / KiB}`);
    return pread.call(driver, offset, buffer, flags);
  };
  driver.pwrite = (offset, buffer, flags) => {
    seen.push(`write ${offset / KiB}+${buffer.byteLength / KiB}`);
    return pwrite!.call(driver, offset, buffer, flags);
  };
  driver.pwriteZeroes = (offset, bytes, flags) => {
    seen.push(`zero ${offset / KiB}+${bytes / KiB}`);
    return pwriteZeroes!.call(driver, offset, bytes, flags);
  };
  return seen;
}

describe("RangeCopier", () => {
  it("copies data and writes holes as zeroes without reading them", async () => {
    const s = await setup(4 * MiB);
    await s.test.fill("src", MiB, 128 * KiB);
    await s.test.fill("dst", 0, 4 * MiB, 0x11);
    const reads = spy(s.source);
    const { charged } = await copier(s).copy(0, 4 * MiB);
    expect(reads).toEqual(["read 1024+128"]);
    expect(await s.test.difference("src", "dst")).toBe(-1);
    expect(charged).toBe(4 * MiB);
    expect(s.test.graph.arena.inUse).toBe(0);
  });

  it("charges nothing for zeroes that may be unmapped", async () => {
    const s = await setup(4 * MiB);
    await s.test.fill("src", MiB, 128 * KiB);
    const { charged } = await copier(s, { unmap: true }).copy(0, 4 * MiB);
    expect(charged).toBe(128 * KiB);
  });

  it("finds zeroes in what it reads", async () => {
    const s = await setup(MiB);
    await s.test.fill("src", 0, MiB);
    await s.source.node.driver.pwrite!(256 * KiB, new Uint8Array(128 * KiB), 0);
    const writes = spy(s.target);
    await copier(s, { detectZeroes: true }).copy(0, MiB);
    expect(writes).toEqual(["write 0+256", "zero 256+128", "write 384+640"]);
    expect(await s.test.difference("src", "dst")).toBe(-1);
  });

  it("writes no zeroes where the target has them in its own layer, if asked to look", async () => {
    const s = await setup(MiB);
    await s.test.fill("dst", 256 * KiB, 64 * KiB);
    const writes = spy(s.target);
    const { driver } = s.target.node;
    await copier(s, { skipZeroed: true }).copy(0, MiB);
    expect(writes).toEqual(["zero 256+64"]);
    writes.length = 0;
    driver.blockStatus = () => Promise.reject(new Error("no status"));
    await copier(s, { skipZeroed: true }).copy(0, MiB);
    expect(writes).toEqual(["zero 0+1024"]);
  });

  it("splits compressed writes into clusters and flags them", async () => {
    const s = await setup(192 * KiB);
    await s.test.fill("src", 0, 192 * KiB);
    const flagsSeen: number[] = [];
    const { driver } = s.target.node;
    driver.pwrite = (_offset, _buffer, flags) => {
      flagsSeen.push(flags);
      return Promise.resolve();
    };
    await copier(s, { compress: true }).copy(0, 192 * KiB);
    expect(flagsSeen).toEqual([32, 32, 32]);
  });

  it.each([
    ["read", { source: [{ event: "none", iotype: "read", errno: EIO, sector: 1 }] }, "EIO"],
    ["write", { target: [{ event: "none", iotype: "write", errno: ENOSPC, sector: 1 }] }, "ENOSPC"],
  ] as const)("says that the %s side failed, and gives its buffer back", async (operation, faults, code) => {
    const s = await setup(MiB, faults as object);
    await s.test.fill("src", 0, MiB);
    const error = await copier(s)
      .copy(0, MiB)
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CopyError);
    expect(error).toMatchObject({ operation, code });
    expect(s.test.graph.arena.inUse).toBe(0);
  });

  it("counts a failed block status as data", async () => {
    const s = await setup(128 * KiB);
    s.source.node.driver.blockStatus = () => Promise.reject(new Error("no status"));
    const reads = spy(s.source);
    await copier(s).copy(0, 128 * KiB);
    expect(reads).toEqual(["read 0+128"]);
  });

  it("copies urgently when the arena is used up", async () => {
    const s = await setup(128 * KiB);
    await s.test.fill("src", 0, 128 * KiB);
    const { arena } = s.test.graph;
    const all = await arena.acquire(arena.size);
    await copier(s).copyData(0, 128 * KiB, true);
    all.release();
    expect(await s.test.difference("src", "dst")).toBe(-1);
  });
});

describe("BlockCopy", () => {
  it("copies everything, reports progress and ends clean", async () => {
    const s = await setup(10 * MiB + 512);
    await s.test.fill("src", 0, 3 * MiB);
    await s.test.fill("src", 10 * MiB, 512);
    await s.test.fill("dst", 5 * MiB, MiB);
    const copy = blockCopy(s);
    let done = 0;
    let remaining = copy.remaining;
    copy.progress = {
      done: (bytes) => (done += bytes),
      remaining: (bytes) => (remaining = bytes),
    };
    expect(remaining).toBe(10 * MiB + 64 * KiB);
    await copy.copyRange({ offset: 0, bytes: copy.length });
    expect(done).toBe(10 * MiB + 64 * KiB);
    expect(remaining).toBe(0);
    expect(copy.bitmap.isEmpty).toBe(true);
    expect(await s.test.difference("src", "dst")).toBe(-1);
  });

  it("copies only what its bitmap says, in clusters", async () => {
    const s = await setup(MiB);
    await s.test.fill("src", 0, MiB);
    const bitmap = new Bitmap(MiB, 4 * KiB, s.test.graph.kernels);
    bitmap.set(130 * KiB, 1);
    const copy = blockCopy(s, { bitmap });
    const writes = spy(s.target);
    await copy.copyRange({ offset: 0, bytes: MiB });
    expect(writes).toEqual(["write 128+64"]);
  });

  it("bounds its requests by size, by number and by bytes in flight, and by more where they take little time", async () => {
    const s = await setup(64 * MiB);
    await s.test.fill("src", 0, 64 * MiB);
    const { driver } = s.source.node;
    const { pread } = driver;
    let [running, bytesRunning, most, mostBytes] = [0, 0, 0, 0];
    const sizes: number[] = [];
    let ms = 50;
    driver.pread = async (offset, buffer, flags) => {
      bytesRunning += buffer.byteLength;
      most = Math.max(most, (running += 1));
      mostBytes = Math.max(mostBytes, bytesRunning);
      sizes.push(buffer.byteLength);
      if (ms > 0) await new Promise<void>((resolve) => s.test.host.clock.timer(ms, resolve));
      else await s.test.host.clock.turn();
      await pread.call(driver, offset, buffer, flags);
      running -= 1;
      bytesRunning -= buffer.byteLength;
    };
    const pass = async (...args: Parameters<BlockCopy["start"]>): Promise<readonly number[]> => {
      most = mostBytes = sizes.length = 0;
      await s.test.host.clock.settle(copy.start(...args).done);
      return [most, mostBytes / MiB, Math.max(...sizes) / KiB];
    };
    const copy = blockCopy(s);
    expect(await pass({ offset: 0, bytes: 16 * MiB })).toEqual([8, 8, 1024]);
    ms = 0;
    const limits = { maxWorkers: 2, maxChunk: 200 * KiB };
    expect(await pass({ offset: 16 * MiB, bytes: 8 * MiB }, limits)).toEqual([2, 0.375, 192]);
    expect(await pass({ offset: 24 * MiB, bytes: 8 * MiB }, { urgent: true })).toEqual([8, 8, 1024]);
    // A guest that writes has small ones beside it, until it has been quiet for a while.
    expect(await pass({ offset: 32 * MiB, bytes: 8 * MiB })).toEqual([8, 8, 1024]);
    await s.test.host.clock.settle(new Promise<void>((resolve) => s.test.host.clock.timer(1000, resolve)));
    const [, bytes, largest] = await pass({ offset: 40 * MiB, bytes: 24 * MiB });
    expect([bytes! <= 16, sizes[0], largest]).toEqual([true, MiB, 4096]);
    expect(await s.test.difference("src", "dst")).toBe(-1);
    expect(s.test.graph.arena.peak).toBeLessThanOrEqual(16 * MiB);
  });

  it("puts a failed range back and takes it up in the next pass", async () => {
    const s = await setup(4 * MiB, {
      source: [{ event: "none", iotype: "read", errno: EIO, sector: 2048, once: true }],
    });
    await s.test.fill("src", 0, 4 * MiB);
    const copy = blockCopy(s);
    const first = copy.start({ offset: 0, bytes: 4 * MiB });
    await first.done;
    expect(first.error).toMatchObject({ operation: "read", code: "EIO" });
    expect(copy.bitmap.get(MiB)).toBe(true);
    const second = copy.start({ offset: 0, bytes: 4 * MiB });
    await second.done;
    expect(second.error).toBeUndefined();
    expect(await s.test.difference("src", "dst")).toBe(-1);
  });

  it("lets requests in flight finish when one fails, and starts no more", async () => {
    const s = await setup(32 * MiB);
    await s.test.fill("src", 0, 32 * MiB);
    const { driver } = s.source.node;
    const { pread } = driver;
    driver.pread = async (offset, buffer, flags) => {
      if (offset === 0) throw new Error("broken");
      await s.test.host.clock.turn();
      return pread.call(driver, offset, buffer, flags);
    };
    const copy = blockCopy(s);
    await copy.start({ offset: 0, bytes: 32 * MiB }).done;
    expect(copy.inFlight.size).toBe(0);
    expect(copy.bitmap.count()).toBeGreaterThanOrEqual(24 * MiB);
    expect(copy.bitmap.get(0)).toBe(true);
  });

  it("does not copy a cluster twice: a second pass waits for the first", async () => {
    const s = await setup(MiB);
    await s.test.fill("src", 0, MiB);
    const copy = blockCopy(s);
    const writes = spy(s.target);
    const all = copy.copyRange({ offset: 0, bytes: MiB });
    let ended = false;
    const one = copy.copyRange({ offset: 4 * KiB, bytes: 512 }, { urgent: true }).then(() => (ended = true));
    await one;
    expect(ended).toBe(true);
    expect(await s.test.difference("src", "dst", 64 * KiB)).toBe(-1);
    await all;
    expect(writes.filter((line) => line.startsWith("write"))).toEqual(["write 0+1024"]);
  });

  it("retries for a waiter what the copy that it waited for failed to do", async () => {
    const s = await setup(MiB, {
      source: [{ event: "none", iotype: "read", errno: EIO, sector: 0, once: true }],
    });
    await s.test.fill("src", 0, MiB);
    const copy = blockCopy(s);
    const all = copy.copyRange({ offset: 0, bytes: MiB });
    const one = copy.copyRange({ offset: 0, bytes: 512 }, { urgent: true });
    await expect(Promise.all([all, one.then(() => undefined)])).rejects.toMatchObject({ code: "EIO" });
    await one.catch(() => undefined);
    await copy.copyRange({ offset: 0, bytes: MiB });
    expect(await s.test.difference("src", "dst")).toBe(-1);
  });

  it("keeps to its rate limit; kick makes it look again, urgent copies pass by", async () => {
    const s = await setup(8 * MiB);
    await s.test.fill("src", 0, 8 * MiB);
    const copy = blockCopy(s);
    let charged = 0;
    let open = MiB;
    copy.rateLimit = {
      isActive: () => true,
      delayMs: (bytes) => {
        charged += bytes;
        return charged >= open ? 1000 : 0;
      },
    };
    const pass = copy.start({ offset: 0, bytes: 8 * MiB });
    await s.test.host.clock.idle();
    expect(charged).toBe(MiB);
    await copy.copyRange({ offset: 4 * MiB, bytes: 1 }, { urgent: true });
    expect(charged).toBe(MiB);
    open = Number.POSITIVE_INFINITY;
    copy.kick();
    await pass.done;
    expect(copy.bitmap.isEmpty).toBe(true);
    expect(charged).toBe(8 * MiB - 64 * KiB);
  });

  it("stops when it is cancelled, also while it waits for the rate limit", async () => {
    const s = await setup(8 * MiB);
    await s.test.fill("src", 0, 8 * MiB);
    const copy = blockCopy(s);
    let charged = 0;
    copy.rateLimit = {
      isActive: () => true,
      delayMs: (bytes) => ((charged += bytes), charged > 0 ? 1e6 : 0),
    };
    const pass = copy.start({ offset: 0, bytes: 8 * MiB });
    await s.test.host.clock.idle();
    pass.cancel();
    await pass.done;
    expect(pass).toMatchObject({ cancelled: true, error: undefined, finished: true });
    expect(copy.bitmap.count()).toBe(7 * MiB);
    expect(s.test.host.clock.pending).toBe(0);
  });

  it("costs what the data costs: a terabyte of holes makes few requests", async () => {
    const s = await setup(2 ** 40);
    await s.test.fill("src", 2 ** 39, 64 * KiB);
    const copy = blockCopy(s, { skipZeroed: true });
    const requests = spy(s.target);
    await copy.copyRange({ offset: 0, bytes: 2 ** 40 });
    expect(requests).toEqual([`write ${2 ** 29}+64`]);
  });

  it("takes clusters that the top layer lacks off the bitmap", async () => {
    const s = await setup(8 * MiB);
    // Data at 1 MiB and in the middle of a cluster at 3 MiB; the rest is not in this layer.
    s.source.node.driver.blockStatus = (offset, bytes) => {
      const edges = [0, MiB, MiB + 64 * KiB, 3 * MiB + 4 * KiB, 3 * MiB + 8 * KiB, 8 * MiB];
      const at = edges.findIndex((edge) => edge > offset);
      const allocated = at % 2 === 0;
      return Promise.resolve({
        bytes: Math.min(edges[at]! - offset, bytes),
        data: allocated,
        zero: false,
        allocated,
      });
    };
    const copy = blockCopy(s);
    for (let at = 0; at < copy.length;) at += await copy.resetUnallocated(at);
    expect(copy.bitmap.extents(0, 8 * MiB, 10)).toEqual([
      { offset: MiB, bytes: 64 * KiB },
      { offset: 3 * MiB, bytes: 64 * KiB },
    ]);
  });
});
