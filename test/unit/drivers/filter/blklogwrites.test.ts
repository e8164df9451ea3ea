// The driver blklogwrites over disks in memory: what its log holds as the harness reads it, at once and while requests overlap; requests
// that fail; the head, which never goes back.
import { describe, expect, it } from "vitest";
import { blklogwrites } from "../../../../src/drivers/filter/blklogwrites/index.ts";
import { readLogOfWrites } from "../../../../src/workload/trace/log-writes.ts";
import { bytesInMemory } from "../../../../src/workload/trace/source.ts";
import { KiB, MiB, pattern, same, TestGraph } from "../../support/graph.ts";

async function logged(
  more: Record<string, unknown> = {},
  faults: { disk?: Record<string, unknown>[]; log?: Record<string, unknown>[] } = {},
): Promise<TestGraph> {
  const test = new TestGraph();
  test.graph.register(blklogwrites);
  await test.disk("disk", MiB, faults.disk);
  await test.disk("log", 0, faults.log);
  const nodes = { "node-name": "top", file: "disk", log: "log" };
  await test.graph.add({ driver: "blklogwrites", discard: "unmap", ...nodes, ...more });
  return test;
}

/** The log, entry by entry: what it is, where, and the first byte. */
async function entriesOf(test: TestGraph): Promise<string[]> {
  const source = bytesInMemory(await test.content("log"));
  return [...readLogOfWrites(source)].map(({ operation, offset, bytes, data }) =>
    [operation, offset, bytes, data?.[0]].join(" "),
  );
}

const error = (iotype: string, more: object = {}): Record<string, unknown> => ({
  event: "none",
  iotype,
  errno: 28,
  ...more,
});

describe("blklogwrites", () => {
  it("notes writes, zeroes, discards and flushes", async () => {
    const test = await logged();
    const edge = await test.edge("top");
    await edge.pwrite(4 * KiB, pattern(KiB, 7));
    await edge.pwriteZeroes(8 * KiB, 4 * KiB);
    await edge.pdiscard(16 * KiB, KiB);
    await edge.flush();
    const expected = ["write 4096 1024 7", "write 8192 4096 0", "discard 16384 1024 ", "flush 0 0 "];
    expect(await entriesOf(test)).toEqual(expected);
  });

  it("keeps what fills no sector from being discarded", async () => {
    const test = await logged({ "log-sector-size": 4096 });
    await test.fill("disk", 0, 16 * KiB, 5);
    const edge = await test.edge("top");
    await edge.pdiscard(1024, 2048);
    await edge.pdiscard(2048, 8 * KiB);
    await edge.flush();
    expect(await entriesOf(test)).toEqual(["discard 4096 4096 ", "flush 0 0 "]);
    const content = await test.content("disk", 0, 16 * KiB);
    expect([content[1024], content[4095], content[8192]]).not.toContain(0);
  });

  it("gives requests that overlap in time places of their own", async () => {
    const test = await logged({ "log-super-update-interval": 1 });
    const edge = await test.edge("top");
    const parts = Array.from({ length: 32 }, (_, at) => at);
    await Promise.all(
      parts.map(async (at) => edge.pwrite(at * 8 * KiB, new Uint8Array(8 * KiB).fill(at + 1))),
    );
    await edge.flush();
    const entries = await entriesOf(test);
    const expected = parts.map((at) => `write ${at * 8 * KiB} ${8 * KiB} ${at + 1}`);
    expect(entries.toSorted()).toEqual([...expected, "flush 0 0 "].toSorted());
  });

  it.each<[string, Parameters<typeof logged>[1]]>([
    ["the disk", { disk: [error("write")] }],
    ["the log", { log: [error("write")] }],
  ])("fails where %s does", async (_name, faults) => {
    const test = await logged({}, faults);
    const edge = await test.edge("top");
    await expect(edge.pwrite(0, pattern(512, 1))).rejects.toMatchObject({ code: "ENOSPC" });
    await test.graph.remove("top").catch(() => undefined);
  });

  it("goes on after a head that could not be written", async () => {
    const first = error("write", { sector: 0, once: true });
    const test = await logged({ "log-super-update-interval": 1 }, { log: [first] });
    const edge = await test.edge("top");
    await expect(edge.pwrite(0, pattern(512, 1))).rejects.toMatchObject({ code: "ENOSPC" });
    await edge.pwrite(512, pattern(512, 2));
    expect(await entriesOf(test)).toEqual(["write 0 512 1", "write 512 512 2"]);
  });

  it.each([1, 100, 5000])("goes on with a log of %i entries", async (count) => {
    const test = await logged();
    const edge = await test.edge("top");
    for (let at = 0; at < count; at++) await edge.pwrite((at % 8) * 512, pattern(512, at % 200));
    await edge.flush();
    await test.graph.detach(edge);
    const before = await entriesOf(test);
    await test.graph.remove("top");
    await test.graph.add({
      ...{ driver: "blklogwrites", "node-name": "again", file: "disk", log: "log" },
      "log-append": true,
    });
    const again = await test.edge("again");
    await again.pwrite(0, pattern(512, 9));
    await again.flush();
    expect(await entriesOf(test)).toEqual([...before, "write 0 512 9", "flush 0 0 "]);
    expect(same(await test.content("disk", 0, 512), pattern(512, 9))).toBe(true);
  });

  it.each<[Record<string, unknown>, string]>([
    [{ "log-append": 1 }, "Invalid parameter type for 'log-append', expected: boolean"],
    [{ "log-sector-size": 48 }, "Invalid log sector size 48"],
    [{ log: undefined }, 'A block device must be specified for "log"'],
  ])("refuses %j", async (more, message) => {
    const adding = logged(more);
    await expect(adding).rejects.toThrow(message);
  });
});
