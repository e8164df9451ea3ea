// A user of a node while it is drained and throttled: every kind of request waits, and goes on.
import { expect, it } from "vitest";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import { drained } from "../../../src/block/model/drain.ts";
import { MiB, TestGraph } from "../support/graph.ts";

it("every request waits for the end of a drain", async () => {
  const bench = new TestGraph();
  const node = await bench.disk("m", MiB);
  const backend = new BlockBackend(bench.graph, "b");
  await backend.attach(node, guestPermissions);
  const ended: string[] = [];
  const note = (name: string, answer: unknown): Promise<void> =>
    Promise.resolve(answer).then(() => void ended.push(name));
  let all: Promise<unknown> = Promise.resolve();
  await drained([node], async () => {
    all = Promise.all([
      note("pread", backend.pread(0, new Uint8Array(512))),
      note("pwrite", backend.pwrite(0, new Uint8Array(512).fill(1))),
      note("pwriteZeroes", backend.pwriteZeroes(512, 512)),
      note("pdiscard", backend.pdiscard(1024, 512)),
      note("flush", backend.flush()),
      note("status", backend.status(0, 512)),
    ]);
    await bench.host.clock.idle();
    expect(ended).toEqual([]);
  });
  await all;
  expect(ended.toSorted()).toEqual(["flush", "pdiscard", "pread", "pwrite", "pwriteZeroes", "status"]);
  expect((await bench.content("m"))[0]).toBe(1);
  await backend.close();
});

it("what lies outside of the disk is refused, by its place", async () => {
  const bench = new TestGraph();
  const backend = new BlockBackend(bench.graph);
  expect(() => backend.length).toThrow(expect.objectContaining({ code: "ENOMEDIUM" }) as Error);
  await backend.attach(await bench.disk("m", MiB), guestPermissions);
  for (const answer of [
    backend.pread(MiB, new Uint8Array(512)),
    backend.pwrite(MiB - 256, new Uint8Array(512)),
    backend.pwriteZeroes(-512, 512),
    backend.pdiscard(MiB, 512),
  ])
    await expect(answer).rejects.toMatchObject({ code: "EIO", node: "m" });
  expect(backend.describe()).toBe("an unnamed block device");
  await backend.close();
});
