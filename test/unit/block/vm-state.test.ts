// The saved machine beside a disk: behind filters, on a node that can't be written, and on one that keeps none.
import { expect, it } from "vitest";
import { readVmState, writeVmState } from "../../../src/block/io/vm-state.ts";
import { checkedQcow2 } from "../../../src/drivers/format/qcow2/checked.ts";
import { TestGraph, MiB } from "../support/graph.ts";

async function bench(): Promise<TestGraph> {
  const made = new TestGraph();
  const { graph, host } = made;
  graph.register(checkedQcow2);
  await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  await checkedQcow2.create!({ graph, host }, { size: MiB, file: "m" });
  await graph.add({ driver: "qcow2", "node-name": "q", file: "m", backing: null });
  return made;
}

it("is written and read behind the disk's end, through a filter too, and the disk stays as it is", async () => {
  const { graph } = await bench();
  const filter = await graph.add({ driver: "blkdebug", "node-name": "f", image: "q" });
  const state = Uint8Array.from({ length: 70_000 }, (_, i) => i % 251);
  await writeVmState(filter, 1000, state);
  const back = new Uint8Array(state.length);
  await readVmState(graph.node("q"), 1000, back);
  expect(back).toEqual(state);
  const disk = new Uint8Array(MiB);
  await graph.node("q").driver.pread(0, disk, 0);
  expect(disk.every((byte) => byte === 0)).toBe(true);
});

it("a node that keeps none says so, and one that is read-only is not written", async () => {
  const { graph } = await bench();
  await expect(readVmState(graph.node("m"), 0, new Uint8Array(512))).rejects.toMatchObject({
    code: "ENOTSUP",
    op: "pread",
  });
  await expect(writeVmState(graph.node("m"), 0, new Uint8Array(512))).rejects.toMatchObject({
    code: "ENOTSUP",
    op: "pwrite",
  });
  await graph.setReadOnly(graph.node("q"), true);
  await expect(writeVmState(graph.node("q"), 0, new Uint8Array(512))).rejects.toMatchObject({
    code: "EACCES",
    op: "pwrite",
  });
});
