// What every filter has to do, as one suite with a manifest of how it is put above a disk: what the disk holds is seen and changed
// through it as without it, its length and block status too, and nothing of it stays behind. A view of a disk as it was is told
// by its manifest: it shows that whatever becomes of the disk, and can't be written. Bare, and under another filter.
import { describe, expect, it } from "vitest";
import type { DriverType, NodeSpec } from "../../../src/block/model/contract.ts";
import { blockStatusAbove } from "../../../src/block/io/status.ts";
import { pread, pwrite } from "../../../src/block/io/io.ts";
import { flush } from "../../../src/block/io/request-path.ts";
import { drained } from "../../../src/block/model/drain.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { randomness } from "../../support/random.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { KiB, pattern, same, TestGraph } from "./graph.ts";

/** What a filter is. */
export interface FilterManifest {
  readonly type: DriverType;
  /** The filter above the node of that name, without `driver`. */
  readonly spec: (below: string) => Record<string, unknown>;
  /** Makes what the description names. */
  readonly prepare?: (bench: TestGraph) => void | Promise<void>;
  /** It shows the disk as it was when it was put there; the node of this name takes the guest's changes. */
  readonly writer?: string;
}

/** Where the tested node, `filter`, lies. */
const wrappers: Readonly<Record<string, (node: string) => NodeSpec | undefined>> = {
  bare: () => undefined,
  "under blkdebug": (image) => ({ driver: "blkdebug", image }),
};

/** Opens a disk, the filter above it, and what lies over that. */
type Open = () => Promise<TestGraph>;

const SIZE = 256 * KiB;

/** The suite. */
export function testFilter(manifest: FilterManifest): void {
  describe.each(Object.keys(wrappers))(`${manifest.type.name} %s`, (how) => {
    const open = (): Promise<TestGraph> => opened(manifest, wrappers[how]!("inner"));
    showingCases(open);
    if (manifest.writer !== undefined) viewCases(open, manifest.writer);
    else {
      transparencyCases(open);
      changeCases(open);
    }
  });
}

async function opened({ type, spec, prepare }: FilterManifest, wrapper?: NodeSpec): Promise<TestGraph> {
  const bench = new TestGraph();
  if (![...bench.graph.drivers].includes(type)) bench.graph.register(type);
  await bench.disk("disk", SIZE);
  await bench.fill("disk", 0, SIZE / 2, 3);
  await prepare?.(bench);
  const name = wrapper ? "inner" : "filter";
  const described = { driver: type.name, "node-name": name, discard: "unmap", ...spec("disk") };
  await bench.graph.add(described as unknown as NodeSpec);
  if (wrapper) await bench.graph.add({ "node-name": "filter", discard: "unmap", ...wrapper });
  return bench;
}

/** Takes the filter away, and what lies over it. */
async function close({ graph }: TestGraph): Promise<void> {
  await graph.remove("filter");
  if (graph.findNode("inner")) await graph.remove("inner");
}

async function contentOf(node: BlockNode): Promise<Uint8Array> {
  const buffer = new Uint8Array(node.length).fill(0xee);
  await pread(node, 0, buffer);
  return buffer;
}

function showingCases(open: Open): void {
  it("shows the disk: length, content, block status", async () => {
    const bench = await open();
    const node = bench.graph.node("filter");
    expect(node.length).toBe(SIZE);
    expect(same(await contentOf(node), await bench.content("disk"))).toBe(true);
    for (const offset of [0, SIZE / 2])
      expect(await blockStatusAbove(node, offset, SIZE / 2)).toMatchObject({
        bytes: SIZE / 2,
        zero: offset > 0,
      });
  });
}

function viewCases(open: Open, writer: string): void {
  it.each([1, 2])("shows the disk as it was, whatever is written meanwhile (seed %i)", async (seed) => {
    const bench = await open();
    const random = randomness(seed);
    const node = bench.graph.node("filter");
    const guest = await bench.edge(writer);
    const before = await bench.content("disk");
    for (let step = 1; step <= 60; step++) {
      const offset = 512 * random(SIZE / 512 - 1);
      const bytes = 512 * (1 + random(Math.min(60, (SIZE - offset) / 512)));
      const kind = random(5);
      const read = new Uint8Array(bytes);
      const reading = Promise.resolve(pread(node, offset, read));
      if (kind === 0) await guest.pwriteZeroes(offset, bytes);
      else if (kind === 1) await guest.pdiscard(offset, bytes);
      else await guest.pwrite(offset, new Uint8Array(bytes).fill(step));
      await reading;
      expect(same(read, before.subarray(offset, offset + bytes)), `step ${step}`).toBe(true);
    }
    expect(same(await contentOf(node), before)).toBe(true);
    expect(same(await bench.content("disk"), before)).toBe(false);
    await bench.graph.detach(guest);
  });

  it("can't be written", async () => {
    const bench = await open();
    const edge = await bench.edge("filter");
    const write = async (): Promise<void> => edge.pwrite(0, new Uint8Array(512).fill(1));
    await expect(write()).rejects.toMatchObject({ code: "ENOTSUP" });
    expect(same(await bench.content("disk", 0, 512), pattern(512, 3))).toBe(true);
  });

  it("drains with reads under way, and leaves the disk as it is when it goes", async () => {
    const bench = await open();
    const node = bench.graph.node("filter");
    const before = await bench.content("disk");
    const reads = Array.from({ length: 20 }, async (_, index) => {
      const read = new Uint8Array(4096);
      await pread(node, index * 4096, read);
      return same(read, before.subarray(index * 4096, (index + 1) * 4096));
    });
    await drained([bench.graph.node(writer)], async () => {
      expect(bench.graph.node("disk").inFlight).toBe(0);
    });
    expect(await Promise.all(reads)).toEqual(reads.map(() => true));
    await close(bench);
    expect(same(await bench.content("disk"), before)).toBe(true);
    for (const name of [writer, "disk"]) await bench.graph.remove(name);
  });
}

function transparencyCases(open: Open): void {
  it("is a filter", async () => {
    const bench = await open();
    expect(bench.graph.node("filter").type.kind).toBe("filter");
  });

  it.each([1, 2])("passes random changes on (seed %i)", async (seed) => {
    const bench = await open();
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

function changeCases(open: Open): void {
  it("discards and resizes", async () => {
    const bench = await open();
    const edge = await bench.edge("filter", Perm.consistentRead | Perm.write | Perm.resize);
    await edge.pdiscard(0, SIZE / 4);
    expect((await bench.content("disk", 0, SIZE / 4)).every((byte) => byte === 0)).toBe(true);
    await edge.truncate(2 * SIZE, { exact: true, preallocation: "off" });
    expect(bench.graph.node("disk").length).toBe(2 * SIZE);
    expect(bench.graph.node("filter").length).toBe(2 * SIZE);
    await bench.graph.detach(edge);
  });

  it("drains with requests under way, and leaves the disk as it was when it goes", async () => {
    const bench = await open();
    const edge = await bench.edge("filter");
    const writes = Array.from({ length: 20 }, async (_, index) =>
      edge.pwrite(index * 4096, new Uint8Array(4096).fill(index + 1)),
    );
    await drained([bench.graph.node("disk")], async () => {
      expect(bench.graph.node("disk").inFlight).toBe(0);
    });
    await Promise.all(writes);
    await bench.graph.detach(edge);
    await close(bench);
    expect((await bench.content("disk", 19 * 4096, 4096)).every((byte) => byte === 20)).toBe(true);
    await bench.graph.remove("disk");
    expect([...bench.graph.nodes].filter(({ name }) => ["disk", "filter", "inner"].includes(name))).toEqual(
      [],
    );
  });
}
