// How large an image would become: the figures of qemu-img measure 7.2, and what it refuses.
import { describe, expect, test } from "vitest";
import { checkedQcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import { imageBench } from "./image-bench.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const measure = (options: Record<string, unknown>, bytes = GiB) => checkedQcow2.measure!({ bytes, options });

test.each<[Record<string, unknown>, number, number]>([
  [{}, 393_216, 1_074_135_040],
  [{ "cluster-size": 4096 }, 2_637_824, 1_076_379_648],
  [{ "extended-l2": true }, 524_288, 1_074_266_112],
  [{ "refcount-bits": 1 }, 393_216, 1_074_135_040],
  [{ preallocation: "full" }, 1_074_135_040, 1_074_135_040],
  [{ preallocation: "metadata" }, 393_216, 1_074_135_040],
])("%j", async (options, requiredBytes, fullyAllocatedBytes) => {
  expect(await measure(options)).toEqual({ requiredBytes, fullyAllocatedBytes });
});

describe("refused", () => {
  test.each<[Record<string, unknown>, string, number?]>([
    [{ "cluster-size": 1000 }, "Cluster size must be a power of two between 512 and 2048k"],
    [{ "cluster-size": 4 * MiB }, "Cluster size must be a power of two between 512 and 2048k"],
    [
      { "cluster-size": 4096, "extended-l2": true },
      "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
    ],
    [{ "refcount-bits": 5 }, "Refcount width must be a power of two and may not exceed 64 bits"],
    [{ "refcount-bits": 128 }, "Refcount width must be a power of two and may not exceed 64 bits"],
    [
      { version: "v2", "refcount-bits": 8 },
      "Different refcount widths than 16 bits require compatibility level 1.1",
    ],
    [{ "cluster-size": 512 }, "The image size is too large (try using a larger cluster size)", 2 ** 50],
  ])("%j", async (options, message, bytes = GiB) => {
    await expect(measure(options, bytes)).rejects.toThrow(message);
  });
});

test("what a source holds, and its bitmaps, count", async () => {
  const { node, edge, bench } = await imageBench();
  await edge.pwrite(0, new Uint8Array(MiB).fill(1));
  await edge.pwrite(4 * MiB + 512, new Uint8Array(512).fill(1));
  const of = (options: Record<string, unknown>) =>
    checkedQcow2.measure!({ bytes: node.length, options, source: node });
  const { requiredBytes, fullyAllocatedBytes } = await of({});
  const empty = await measure({}, 8 * MiB);
  expect(requiredBytes - empty.requiredBytes).toBe(MiB + 65_536);
  expect(fullyAllocatedBytes).toBe(empty.fullyAllocatedBytes);
  expect(await of({})).toMatchObject({ bitmapsBytes: 0 });
  expect(await of({ version: "v2" })).not.toHaveProperty("bitmapsBytes");
  const backed = await of({ "backing-file": "b" });
  expect(backed.requiredBytes).toBe(backed.fullyAllocatedBytes);
  const kept = { node: "q", persistent: true };
  bench.graph.node("q").dirtyBitmaps.push(
    ...[
      { ...kept, name: "fine", granularity: 512 },
      { ...kept, name: "unsure", granularity: 512, inconsistent: true },
      { ...kept, name: "passing", granularity: 512, persistent: false },
    ].map((bitmap) => bitmap as never),
  );
  // Its bits, its table and the directory, a cluster each.
  expect(await of({})).toMatchObject({ bitmapsBytes: 3 * 65_536 });
});
