// alloc-track: the disk is the backing node's but where it was written through; a stream makes the file whole, whatever it held.
import { describe, expect, test } from "vitest";
import { blockStatus } from "../../../../src/block/io/status.ts";
import { BlockBackend, guestPermissions } from "../../../../src/block/graph/backend.ts";
import { allocTrack } from "../../../../src/drivers/filter/alloc-track.ts";
import { copyOnRead } from "../../../../src/drivers/filter/copy-on-read.ts";
import { startStream } from "../../../../src/job/stream/stream.ts";
import { KiB, MiB, pattern, same, TestGraph } from "../../support/graph.ts";

const SIZE = 2 * MiB + 512;

interface Bench {
  test: TestGraph;
  backend: BlockBackend;
  /** What the disk must show. */
  model: Uint8Array;
  write: (offset: number, bytes: number, seed: number) => Promise<void>;
  check: () => Promise<void>;
}

async function bench(faults?: Record<string, unknown>[]): Promise<Bench> {
  const made = new TestGraph();
  made.graph.register(allocTrack, copyOnRead);
  await made.disk("below", SIZE, faults);
  await made.disk("file", SIZE);
  await made.fill("below", 0, MiB, 3);
  // What the file held before is no part of the disk.
  await made.fill("file", 0, SIZE, 77);
  await made.graph.add({ driver: "alloc-track", "node-name": "top", file: "file", backing: "below" });
  const backend = new BlockBackend(made.graph, "guest");
  await backend.attach(made.graph.node("top"), guestPermissions);
  const model = await made.content("below");
  const settle = <T>(promise: T | Promise<T>): Promise<T> => made.host.clock.settle(promise);
  return {
    test: made,
    backend,
    model,
    write: async (offset, bytes, seed) => {
      const data = pattern(bytes, seed);
      await settle(backend.pwrite(offset, data));
      model.set(data, offset);
    },
    check: async () => {
      const shown = new Uint8Array(SIZE);
      await settle(backend.pread(0, shown));
      expect(same(shown, model)).toBe(true);
    },
  };
}

describe("a disk over another", () => {
  test("shows what lies below, but where it was written, and leaves that as it is", async () => {
    const made = await bench();
    const before = await made.test.content("below");
    await made.check();
    await made.write(100, 9, 1);
    await made.write(64 * KiB - 1, 2, 2);
    await made.write(MiB - 700, 200 * KiB, 3);
    await made.write(SIZE - 10, 10, 4);
    await made.check();
    const { backend, model, test: graph } = made;
    await graph.host.clock.settle(backend.pwriteZeroes(300 * KiB, 70 * KiB));
    model.fill(0, 300 * KiB, 370 * KiB);
    await made.check();
    expect(same(await graph.content("below"), before)).toBe(true);
    await backend.close();
  });

  test("writes of one granule at once leave each its bytes", async () => {
    const made = await bench();
    const writes = Array.from({ length: 12 }, (_, i) => made.write(128 * KiB + i * 5000, 4999, i));
    await Promise.all(writes);
    await made.check();
    await made.backend.close();
  });

  test("a discard of what the file does not hold brings nothing else to light", async () => {
    const made = await bench();
    await made.test.host.clock.settle(made.backend.pdiscard(0, SIZE));
    await made.check();
    await made.backend.close();
  });

  test("tells what is its own", async () => {
    const made = await bench();
    await made.write(256 * KiB, 1, 1);
    const top = made.test.graph.node("top");
    expect(await blockStatus(top, 0, SIZE)).toMatchObject({ bytes: 256 * KiB, allocated: false });
    const own = await blockStatus(top, 256 * KiB, 64 * KiB);
    expect(own).toMatchObject({ bytes: 64 * KiB, allocated: true, data: true });
    await made.backend.close();
  });

  test("needs something below", async () => {
    const made = new TestGraph();
    made.graph.register(allocTrack);
    await made.disk("file", SIZE);
    await expect(made.graph.add({ driver: "alloc-track", "node-name": "t", file: "file" })).rejects.toThrow(
      "Parameter 'backing' is missing",
    );
  });

  test("a fill that fails leaves the disk as it was", async () => {
    const made = await bench([{ event: "none", iotype: "read", errno: 5, sector: 128, once: true }]);
    await expect(made.write(64 * KiB + 100, 5, 9)).rejects.toThrow("Input/output error");
    await made.check();
    await made.write(64 * KiB + 100, 5, 9);
    await made.check();
    await made.backend.close();
  });
});

describe("a stream into it", () => {
  test("makes the file the whole disk while a guest writes", async () => {
    const made = await bench();
    const { clock, random } = made.test.host;
    const job = await startStream(made.test.graph, { device: "top", "job-id": "s", speed: 4 * MiB });
    for (let i = 0; i < 40; i++) {
      await made.write(random.below(SIZE - 9000), 1 + random.below(9000), i);
      if (i % 4 === 0) await clock.step();
    }
    await clock.settle(job.done);
    await made.check();
    expect(made.test.graph.node("top").backing).toBeUndefined();
    await made.write(5, 5, 5);
    await made.check();
    await clock.settle(made.backend.flush());
    expect(same(await made.test.content("file"), made.model)).toBe(true);
    await made.backend.close();
  });

  test("that fails keeps the disk over the other", async () => {
    const made = await bench([{ event: "none", iotype: "read", errno: 5, sector: 1024, once: true }]);
    const job = await startStream(made.test.graph, { device: "top", "job-id": "s" });
    await expect(made.test.host.clock.settle(job.done)).rejects.toThrow("Input/output error");
    expect(made.test.graph.node("top").backing).toBeDefined();
    await made.check();
    const again = await startStream(made.test.graph, { device: "top", "job-id": "t" });
    await made.test.host.clock.settle(again.done);
    await made.check();
    await made.backend.close();
  });
});

describe("with a map", () => {
  /** A disk over what `file` and `map` hold by now, with an own idea of it. */
  async function withMap(made: TestGraph, name: string): Promise<BlockBackend> {
    const spec = { driver: "alloc-track", "node-name": name, file: "file", backing: "below", map: "map" };
    await made.graph.add(spec);
    const backend = new BlockBackend(made.graph, `guest of ${name}`);
    await backend.attach(made.graph.node(name), guestPermissions);
    return backend;
  }

  async function shown(made: TestGraph, backend: BlockBackend): Promise<Uint8Array> {
    const bytes = new Uint8Array(SIZE);
    await made.host.clock.settle(backend.pread(0, bytes));
    return bytes;
  }

  async function begun(): Promise<{ made: TestGraph; copies: () => Promise<void> }> {
    const made = new TestGraph();
    made.graph.register(allocTrack, copyOnRead);
    await made.disk("below", SIZE);
    await made.disk("file", SIZE);
    await made.disk("map", 0);
    await made.fill("below", 0, SIZE, 3);
    await made.fill("file", 0, SIZE, 77);
    // As another process finds them, whatever this one does at its end.
    const copies = async (): Promise<void> => {
      for (const name of ["file", "map"]) {
        const bytes = await made.content(name);
        await made.disk(`${name}2`, bytes.length);
        const edge = new BlockBackend(made.graph, name);
        await edge.attach(made.graph.node(`${name}2`), guestPermissions);
        await made.host.clock.settle(edge.pwrite(0, bytes));
        await edge.close();
      }
    };
    return { made, copies };
  }

  test("another process goes on with what was flushed, and with nothing else", async () => {
    const { made, copies } = await begun();
    const settle = <T>(one: T | Promise<T>): Promise<T> => made.host.clock.settle(one);
    const first = await withMap(made, "one");
    const model = await made.content("below");
    const kept = pattern(70 * KiB, 9);
    await settle(first.pwrite(100 * KiB, kept));
    await settle(first.flush());
    model.set(kept, 100 * KiB);
    await settle(first.pwrite(MiB, pattern(KiB, 10)));
    await copies();
    const again = { driver: "alloc-track", "node-name": "two", file: "file2", backing: "below", map: "map2" };
    await made.graph.add(again);
    const second = new BlockBackend(made.graph, "second");
    await second.attach(made.graph.node("two"), guestPermissions);
    expect(same(await shown(made, second), model)).toBe(true);
    const job = await startStream(made.graph, { device: "two", "job-id": "s" });
    await settle(job.done);
    expect(same(await made.content("file2"), model)).toBe(true);
    await settle(second.flush());
    // All of it is noted: nothing would be filled again.
    expect((await made.content("map2")).subarray(0, 4)).toEqual(Uint8Array.of(255, 255, 255, 255));
    await first.close();
    await second.close();
  });

  test("of a disk of another length it is refused, and the disk keeps its length", async () => {
    const { made } = await begun();
    const backend = await withMap(made, "one");
    const exact = { exact: true, preallocation: "off" } as const;
    const longer = async (): Promise<void> => made.graph.node("one").driver.truncate!(SIZE + MiB, exact);
    await expect(longer()).rejects.toThrow("keeps its length");
    await backend.close();
    await made.disk("other", KiB);
    await made.disk("rest", SIZE);
    const spec = { driver: "alloc-track", "node-name": "two", file: "rest", backing: "below", map: "other" };
    await expect(made.graph.add(spec)).rejects.toThrow("the map is of another disk");
  });
});
