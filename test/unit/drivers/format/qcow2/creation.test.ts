// Options of images and of their caches that contradict each other are refused in QEMU's words, before anything is written.
import { describe, expect, test } from "vitest";
import { imageBench } from "./image-bench.ts";

const v2 = { version: "v2" };
const needsV3 = "are only supported with compatibility level 1.1 and above (use version=v3 or greater)";

describe("an image is not made", () => {
  test.each<[Record<string, unknown>, string]>([
    [{ "refcount-bits": 3 }, "Refcount width must be a power of two and may not exceed 64 bits"],
    [{ "refcount-bits": 128 }, "Refcount width must be a power of two and may not exceed 64 bits"],
    [
      { ...v2, "refcount-bits": 8 },
      "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)",
    ],
    [
      { "backing-file": "b", "backing-fmt": "raw", preallocation: "metadata" },
      "Backing file and preallocation can only be used at the same time if extended_l2 is on",
    ],
    [{ "backing-fmt": "raw" }, "Backing format cannot be used without backing file"],
    [
      { ...v2, "lazy-refcounts": true },
      "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)",
    ],
    [{ "data-file-raw": true }, "data-file-raw requires data-file"],
    [
      { "data-file": "d", "data-file-raw": true, "backing-file": "b", "backing-fmt": "raw" },
      "Backing file and data-file-raw cannot be used at the same time",
    ],
    [{ ...v2, "data-file": "d" }, `External data files ${needsV3}`],
    [{ ...v2, "extended-l2": true }, `Extended L2 entries ${needsV3}`],
    [
      { "extended-l2": true, "cluster-size": 4096 },
      "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
    ],
    [{ ...v2, "compression-type": "zstd" }, `Non-zlib compression type ${needsV3.replace("are", "is")}`],
    [{ size: 2 ** 53 - 512 }, "Could not resize image: "],
    [{ size: 2 ** 45, "cluster-size": 512 }, "Failed to grow the L1 table: File too large"],
  ])("%j", async (options, message) => {
    await expect(imageBench(options)).rejects.toThrow(message);
  });
});

describe("an image is not opened", () => {
  test.each<[Record<string, unknown>, string]>([
    [
      { "cache-size": 4_194_304, "l2-cache-size": 65_536, "refcount-cache-size": 65_536 },
      "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time",
    ],
    [{ "cache-size": 65_536, "l2-cache-size": 131_072 }, "l2-cache-size may not exceed cache-size"],
    [
      { "cache-size": 65_536, "refcount-cache-size": 131_072 },
      "refcount-cache-size may not exceed cache-size",
    ],
    [
      { "l2-cache-entry-size": 131_072 },
      "L2 cache entry size must be a power of two between 512 and the cluster size (65536)",
    ],
    [{ "refcount-cache-size": 2 ** 52 }, "Refcount cache size too big"],
    [
      { "cache-size": 2 ** 52, "refcount-cache-size": 0, "l2-cache-entry-size": 512 },
      "L2 cache size too big",
    ],
    [{ "cache-clean-interval": -1 }, "Cache clean interval too big"],
    [{ "cache-clean-interval": 2 ** 32 }, "Cache clean interval too big"],
    [
      { "data-file": { driver: "memory", size: 0 } },
      "'data-file' can only be set for images with an external data file",
    ],
    [{ "overlap-check": "frob" }, "frob"],
  ])("%j", async (spec, message) => {
    await expect(imageBench({}, spec)).rejects.toThrow(message);
  });

  test("of version 2 with what came later", async () => {
    await expect(imageBench(v2, { "lazy-refcounts": true })).rejects.toThrow(
      "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level",
    );
    await expect(imageBench(v2, { "discard-no-unref": true })).rejects.toThrow(
      "discard-no-unref is only supported since qcow2 version 3",
    );
  });
});

test("what was asked for stands in what the image says of itself", async () => {
  const told = async (options: Record<string, unknown>) =>
    (await imageBench(options)).node.driver.formatSpecific?.()?.data;
  expect(await told({ "lazy-refcounts": true, "compression-type": "zstd" })).toMatchObject({
    ...{ compat: "1.1", "lazy-refcounts": true, "compression-type": "zstd", "refcount-bits": 16 },
  });
  expect(await told({ version: "v2" })).toEqual({
    ...{ compat: "0.10", "compression-type": "zlib", "refcount-bits": 16 },
  });
});

test("what fits is opened", async () => {
  for (const spec of [
    { "cache-size": 4_194_304 },
    { "cache-size": 4_194_304, "l2-cache-size": 65_536 },
    { "cache-size": 4_194_304, "refcount-cache-size": 262_144 },
    { "l2-cache-entry-size": 512, "overlap-check": { template: "all" } },
    { "overlap-check": "none", "pass-discard-request": false, "bitmap-journal": false },
  ]) {
    const { node } = await imageBench({}, spec);
    expect(node.length).toBe(8 * 2 ** 20);
  }
});
