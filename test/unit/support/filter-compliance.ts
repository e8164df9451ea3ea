// What every filter has to do, as one suite with a manifest of how it is put above a disk: what the disk holds is seen and changed
// through it as without it, its length and block status too, and nothing of it stays behind.
import { describe, expect, it } from "vitest";
import type { DriverType, NodeSpec } from "../../../src/block/model/contract.ts";
import { blockStatusAbove } from "../../../src/block/io/status.ts";
import { flush, pread, pwrite } from "../../../src/block/io/io.ts";
import { drained } from "../../../src/block/model/drain.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { randomness } from "../../support/random.ts";
import { KiB, same, TestGraph } from "./graph.ts";

/** What a filter is. */
export interface FilterManifest {
  readonly type: DriverType;
  /** The filter above the node of that name, without `driver`. */
  readonly spec: (below: string) => Record<string, unknown>;
  /** Makes what the description names. */
  readonly prepare?: (bench: TestGraph) => void | Promise<void>;
}

const SIZE = 256 * KiB;

/** The suite. */
export function testFilter(manifest: FilterManifest): void {
  describe(manifest.type.name, () => {
    transparencyCases(manifest);
    changeCases(manifest);
  });
}

async function opened({ type, spec, prepare }: FilterManifest): Promise<TestGraph> {
  const bench = new TestGraph();
  bench.graph.register(type);
  await bench.disk("disk", SIZE);
  await bench.fill("disk", 0, SIZE / 2, 3);
  await prepare?.(bench);
  const described = { driver: type.name, "node-name": "filter", discard: "unmap", ...spec("disk") };
  await bench.graph.add(described as unknown as NodeSpec);
  return bench;
}

function transparencyCases(manifest: FilterManifest): void {
  it("shows the disk: length, content, block status", async () => {
    const bench = await opened(manifest);
    const node = bench.graph.node("filter");
    expect(node.length).toBe(SIZE);
    expect(node.type.kind).toBe("filter");
    const buffer = new Uint8Array(SIZE);
    await pread(node, 0, buffer);
    expect(same(buffer, await bench.content("disk"))).toBe(true);
    for (const offset of [0, SIZE / 2])
      expect(await blockStatusAbove(node, offset, SIZE / 2)).toMatchObject({
        bytes: SIZE / 2,
        zero: offset > 0,
      });
  });

  it.each([1, 2])("passes random changes on (seed %i)", async (seed) => {
    const bench = await opened(manifest);
    const random = randomness(seed);
    const node = bench.graph.node("filter");
    const edge = await bench.edge(node);
    const model = await bench.content("disk");
    for (let step = 1; step <= 60; step++) {
      const offset = 512 * random(SIZE / 512 - 1);
      const bytes = 512 * (1 + random(Math.min(60, (SIZE - offset) / 512)));
      const kind = random(5);
      if (kind === 0) await flush(node);
      else if (kind === 1) {
        await edge.pwriteZeroes(offset, bytes);
        model.fill(0, offset, offset + bytes);
      } else if (kind === 2) {
        const read = new Uint8Array(bytes);
        await pread(node, offset, read);
        expect(same(read, model.subarray(offset, offset + bytes)), `step ${step}`).toBe(true);
      } else {
        await pwrite(node, offset, new Uint8Array(bytes).fill(step));
        model.fill(step, offset, offset + bytes);
      }
    }
    expect(same(await bench.content("disk"), model)).toBe(true);
    await bench.graph.detach(edge);
  });
}

function changeCases(manifest: FilterManifest): void {
  it("discards and resizes", async () => {
    const bench = await opened(manifest);
    const edge = await bench.edge("filter", Perm.consistentRead | Perm.write | Perm.resize);
    await edge.pdiscard(0, SIZE / 4);
    expect((await bench.content("disk", 0, SIZE / 4)).every((byte) => byte === 0)).toBe(true);
    await edge.truncate(2 * SIZE, { exact: true, preallocation: "off" });
    expect(bench.graph.node("disk").length).toBe(2 * SIZE);
    expect(bench.graph.node("filter").length).toBe(2 * SIZE);
    await bench.graph.detach(edge);
  });

  it("drains with requests under way, and leaves the disk as it was when it goes", async () => {
    const bench = await opened(manifest);
    const edge = await bench.edge("filter");
    const writes = Array.from({ length: 20 }, async (_, index) =>
      edge.pwrite(index * 4096, new Uint8Array(4096).fill(index + 1)),
    );
    await drained([bench.graph.node("disk")], async () => {
      expect(bench.graph.node("disk").inFlight).toBe(0);
    });
    await Promise.all(writes);
    await bench.graph.detach(edge);
    await bench.graph.remove("filter");
    expect((await bench.content("disk", 19 * 4096, 4096)).every((byte) => byte === 20)).toBe(true);
    await bench.graph.remove("disk");
    expect([...bench.graph.nodes].filter(({ name }) => name === "disk" || name === "filter")).toEqual([]);
  });
}
