// An external data file: clusters lie where the disk has them, and what the image says of them is what the file holds.
import { expect, test } from "vitest";
import { Req } from "../../../../../src/block/model/contract.ts";
import { checkClosed, headerOf, imageBench, read } from "./image-bench.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const CLUSTER = 64 * KiB;

test.each([false, true])("data-file-raw %o: writes, zeroes, discards and lengths", async (raw) => {
  const made = await imageBench({ "data-file": "d", "data-file-raw": raw });
  const { bench, edge, node } = made;
  await edge.pwrite(CLUSTER + 512, new Uint8Array(3 * CLUSTER).fill(7));
  const data = await bench.content("d");
  expect([
    data[CLUSTER + 511],
    data[CLUSTER + 512],
    data[4 * CLUSTER + 511],
    data[4 * CLUSTER + 512],
  ]).toEqual([...[0, 7, 7, 0]]);
  await edge.pwriteZeroes(2 * CLUSTER, CLUSTER);
  await edge.pdiscard(3 * CLUSTER, CLUSTER);
  const disk = await read(made, 0, 6 * CLUSTER);
  expect([1.5, 2.5, 3.5, 4, 5].map((cluster) => disk[cluster * CLUSTER])).toEqual([7, 0, 0, 7, 0]);
  if (raw) {
    // It stands for the disk.
    const file = await bench.content("d", 0, 6 * CLUSTER);
    expect(file.findIndex((byte, at) => byte !== disk[at])).toBe(-1);
  }
  await edge.truncate(16 * MiB, { exact: true, preallocation: "off" });
  await edge.truncate(2 * MiB, { exact: true, preallocation: "off" });
  expect([node.length, bench.graph.node("d").length]).toEqual([2 * MiB, 2 * MiB]);
  expect(node.driver.formatSpecific?.()?.data).toMatchObject({ "data-file-raw": raw });
  expect((await headerOf(made)).incompatible).toBe(4n);
  expect(await checkClosed(made)).toMatchObject({ corruptions: 0, leaks: 0, words: [] });
});

test("neither snapshots nor compressed clusters", async () => {
  const { node, edge } = await imageBench({ "data-file": "d" });
  await expect(node.driver.snapshots!()!.create({ name: "s" })).rejects.toMatchObject({
    code: "ENOTSUP",
  });
  await expect(edge.pwrite(0, new Uint8Array(CLUSTER).fill(1), Req.compressed)).rejects.toMatchObject({
    code: "ENOTSUP",
  });
});

test("what is preallocated is mapped", async () => {
  for (const preallocation of ["metadata", "falloc", "full"]) {
    const made = await imageBench({ "data-file": "d", preallocation });
    expect(made.bench.graph.node("d").length, preallocation).toBe(8 * MiB);
    expect(await checkClosed(made)).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 128 });
  }
});
