// Amending an open image: versions, refcount widths and lengths change and its data stay; what can't be is refused.
import { describe, expect, test } from "vitest";
import { Role } from "../../../../../src/block/model/contract.ts";
import { type ImageBench, checkClosed, headerOf, imageBench, read } from "./image-bench.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const CLUSTER = 64 * KiB;

function amend({ node }: ImageBench, options: Record<string, unknown>): Promise<void> {
  return node.driver.amend!(options, {});
}

/** Data, zeroes over data, zeroes over nothing. */
async function filled(options: Record<string, unknown> = {}): Promise<ImageBench> {
  const made = await imageBench(options);
  await made.edge.pwrite(0, new Uint8Array(3 * CLUSTER).fill(7));
  if (options["version"] !== "v2") {
    await made.edge.pwriteZeroes(CLUSTER, CLUSTER);
    await made.edge.pwriteZeroes(MiB, 2 * CLUSTER);
  }
  return made;
}

async function expectData(made: ImageBench, isZeroed: boolean): Promise<void> {
  const disk = await read(made, 0, 2 * MiB);
  const wrong = disk.findIndex((byte, at) => {
    const isData = at < CLUSTER || (at < 3 * CLUSTER && (!isZeroed || at >= 2 * CLUSTER));
    return byte !== (isData ? 7 : 0);
  });
  expect(wrong).toBe(-1);
}

test("version 3 becomes 2, whose images have no zero clusters, and 3 again", async () => {
  const made = await filled();
  await amend(made, { version: "v2" });
  expect((await headerOf(made)).version).toBe(2);
  await expectData(made, true);
  await amend(made, { version: "v3", "lazy-refcounts": true });
  expect(await headerOf(made)).toMatchObject({ version: 3, compatible: 1n });
  await expectData(made, true);
  await amend(made, { "lazy-refcounts": false });
  expect(await headerOf(made)).toMatchObject({ compatible: 0n });
  expect(await checkClosed(made)).toMatchObject({ corruptions: 0, leaks: 0, words: [] });
});

test("zeroes over a backing file's data stay zeroes in version 2", async () => {
  const made = await imageBench();
  const { graph } = made.bench;
  await graph.add({ driver: "memory", "node-name": "b", size: 8 * MiB });
  await graph.node("b").driver.pwrite!(0, new Uint8Array(4 * CLUSTER).fill(9), 0);
  await graph.setBacking(made.node, graph.node("b"), Role.cow);
  await made.edge.pwriteZeroes(CLUSTER, 2 * CLUSTER);
  await amend(made, { version: "v2" });
  const disk = await read(made, 0, 4 * CLUSTER);
  expect([0, 1, 2, 3].map((cluster) => disk[cluster * CLUSTER])).toEqual([9, 0, 0, 9]);
});

test.each([1, 2, 4, 8, 32, 64])("refcounts get a width of %d bits, and 16 again", async (bits) => {
  const made = await filled();
  await amend(made, { "refcount-bits": bits });
  expect((await headerOf(made)).refcountOrder).toBe(Math.log2(bits));
  await made.edge.pwrite(4 * MiB, new Uint8Array(CLUSTER).fill(5));
  await expectData(made, true);
  await amend(made, { "refcount-bits": 16 });
  expect((await headerOf(made)).refcountOrder).toBe(4);
  expect(await checkClosed(made)).toMatchObject({ corruptions: 0, leaks: 0, words: [] });
});

test("a length changes both ways", async () => {
  const made = await filled();
  await amend(made, { size: 16 * MiB });
  await amend(made, { size: 2 * MiB });
  expect(made.node.length).toBe(2 * MiB);
  await expectData(made, true);
});

describe("refused", () => {
  test.each<[Record<string, unknown>, string, Record<string, unknown>?]>([
    [{ frob: 1 }, "Invalid parameter 'frob'"],
    [{ "refcount-bits": 7 }, "Refcount width must be a power of two and may not exceed 64 bits"],
    [{ size: 1000 }, "The new size must be a multiple of 512"],
    [{ "data-file": "x" }, "data-file can only be set for images that use an external data file"],
    [{ "data-file-raw": true }, "data-file-raw cannot be set on existing images"],
    [{ "backing-file": "x" }, "Cannot amend the backing file"],
    [{ "backing-fmt": "raw" }, "Cannot amend the backing file"],
    [{ encrypt: { format: "luks" } }, "Can't amend encryption options - encryption not present"],
    [{ version: "v2" }, "compat=0.10 requires refcount_bits=16", { "refcount-bits": 8 }],
    [
      { version: "v2" },
      "Cannot downgrade an image with incompatible features 0x10 set",
      { "extended-l2": true },
    ],
    [{ version: "v2" }, "Cannot downgrade an image with a data file", { "data-file": "d" }],
    [
      { version: "v2", "lazy-refcounts": true },
      "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)",
    ],
    [
      { "refcount-bits": 8 },
      "Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)",
      { version: "v2" },
    ],
  ])("%j", async (options, message, created = {}) => {
    const made = await imageBench(created);
    const before = await headerOf(made);
    await expect(amend(made, options)).rejects.toThrow(message);
    expect(await headerOf(made)).toEqual(before);
  });

  test("with snapshots", async () => {
    const made = await filled();
    await made.node.driver.snapshots!()!.create({ name: "s" });
    await expect(amend(made, { version: "v2" })).rejects.toThrow(
      "Internal snapshots prevent downgrade of image",
    );
    await expect(amend(made, { "refcount-bits": 1 })).rejects.toThrow("has a refcount of 2");
  });
});
