// Making an image in storage that is there: it gets its length, its first sector is cleared, and a format's own is written into it.
import { expect, it } from "vitest";
import { makeInPlace } from "../../../src/block/graph/in-place.ts";
import { checkedQcow2 } from "../../../src/drivers/format/qcow2/checked.ts";
import { MiB, TestGraph } from "../support/graph.ts";

const file = { driver: "memory", "node-name": "slot", size: MiB } as const;

it("a raw image is its storage, which is made as long, and is none that can be preallocated", async () => {
  const bench = new TestGraph();
  const { graph } = bench;
  await bench.disk("m", MiB);
  await graph.node("m").driver.pwrite!(0, new Uint8Array(MiB).fill(7), 0);
  const slot = { driver: "raw", file: "m" };
  const never = (): Promise<void> => Promise.reject(new Error("it was formatted"));
  await makeInPlace(graph, { image: { driver: "raw", size: 2 * MiB }, file: slot }, never);
  const content = await bench.content("m");
  expect([content.length, content[0], content[511], content[512]]).toEqual([2 * MiB, 0, 0, 7]);
  const image = { driver: "raw", size: MiB, preallocation: "full" };
  await expect(makeInPlace(graph, { image, file: slot }, never)).rejects.toThrow(
    "Unsupported preallocation mode 'full'",
  );
  await makeInPlace(graph, { image: { driver: "raw", size: 0 }, file: { driver: "memory", size: 0 } }, never);
  expect(graph.nodes.map(({ name }) => name)).toEqual(["m"]);
});

it("another format is made in it", async () => {
  const { graph, host } = new TestGraph();
  graph.register(checkedQcow2);
  const made: unknown[] = [];
  await makeInPlace(graph, { image: { driver: "qcow2", size: MiB }, file }, async (name) => {
    made.push(name);
    await checkedQcow2.create!({ graph, host }, { size: MiB, file: name });
    expect(graph.node("slot").length).toBeGreaterThan(65_536);
  });
  expect(made).toEqual(["slot"]);
});

it("storage that does not open says what was wanted of it", async () => {
  const { graph } = new TestGraph();
  const image = { driver: "raw", size: MiB };
  const gone = { driver: "memory", size: -1 };
  await expect(makeInPlace(graph, { image, file: gone }, () => Promise.resolve())).rejects.toThrow(
    "Protocol driver 'memory' does not support image creation, and opening the image failed",
  );
});
