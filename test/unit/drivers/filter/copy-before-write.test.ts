// copy-before-write over memory nodes: the target keeps what the source held, and whom a failed copy hurts.
import { describe, expect, it } from "vitest";
import type { Child } from "../../../../src/block/model/node.ts";
import type { BlockNode } from "../../../../src/block/model/node.ts";
import { Perm } from "../../../../src/block/model/permissions.ts";
import { createDirtyBitmap } from "../../../../src/block/model/dirty-bitmap.ts";
import type { CopyBeforeWrite } from "../../../../src/drivers/filter/copy-before-write.ts";
import { KiB, MiB, TestGraph, pattern, same } from "../../support/graph.ts";

const EIO = 5;

interface Setup {
  test: TestGraph;
  filter: BlockNode;
  driver: CopyBeforeWrite;
  guest: Child;
}

async function setup(
  options: {
    spec?: Record<string, unknown>;
    sourceFaults?: Record<string, unknown>[];
    targetFaults?: Record<string, unknown>[];
    before?: (test: TestGraph) => Promise<void>;
  } = {},
): Promise<Setup> {
  const test = new TestGraph();
  await test.disk("src", MiB, options.sourceFaults);
  await test.disk("dst", MiB, options.targetFaults);
  await test.fill("src", 0, MiB, 1);
  await options.before?.(test);
  const spec = {
    driver: "copy-before-write",
    "node-name": "cbw",
    file: "src",
    target: "dst",
    discard: "unmap",
    ...options.spec,
  };
  const filter = await test.graph.add(spec as never);
  const guest = await test.edge(filter);
  return { test, filter, driver: filter.driver as CopyBeforeWrite, guest };
}

const old = pattern(MiB, 1);

describe("copy-before-write", () => {
  it.each([
    ["write", (guest: Child) => guest.pwrite(100 * KiB, pattern(512, 9))],
    ["zero write", (guest: Child) => guest.pwriteZeroes(100 * KiB, 512)],
    ["discard", (guest: Child) => guest.pdiscard(64 * KiB, 64 * KiB)],
  ])("copies the old clusters before a %s, and only those", async (_kind, change) => {
    const { test, guest } = await setup();
    await change(guest);
    const copied = await test.content("dst");
    expect(same(copied.subarray(64 * KiB, 128 * KiB), old.subarray(64 * KiB, 128 * KiB))).toBe(true);
    expect(test.graph.kernels.isZero(copied.subarray(0, 64 * KiB))).toBe(true);
    expect(test.graph.kernels.isZero(copied.subarray(128 * KiB))).toBe(true);
    expect(
      same(
        (await test.content("src")).subarray(100 * KiB, 100 * KiB + 512),
        old.subarray(100 * KiB, 100 * KiB + 512),
      ),
    ).toBe(false);
  });

  it("copies a cluster once", async () => {
    const { test, guest, driver } = await setup();
    await guest.pwrite(0, pattern(64 * KiB, 9));
    await guest.pwrite(0, pattern(64 * KiB, 17));
    expect(same(await test.content("dst", 0, 64 * KiB), old.subarray(0, 64 * KiB))).toBe(true);
    expect(driver.copy.bitmap.count()).toBe(MiB - 64 * KiB);
  });

  it("passes reads through and shows the source's length and status", async () => {
    const { guest, filter } = await setup();
    const buffer = new Uint8Array(4 * KiB);
    await guest.pread(512, buffer);
    expect(same(buffer, old.subarray(512, 512 + 4 * KiB))).toBe(true);
    expect(filter.length).toBe(MiB);
    expect(await guest.blockStatus(0, MiB)).toMatchObject({ data: true, bytes: MiB });
  });

  it.each([
    ["target", { targetFaults: [{ event: "none", iotype: "write", errno: EIO, sector: 0, once: true }] }],
    ["source", { sourceFaults: [{ event: "none", iotype: "read", errno: EIO, sector: 0, once: true }] }],
  ])(
    "fails the guest's write when the %s fails, leaves the source as it was, and copies at the next try",
    async (_side, faults) => {
      const { test, guest } = await setup(faults);
      await expect(guest.pwrite(0, pattern(512, 9))).rejects.toMatchObject({ code: "EIO" });
      expect(same(await test.content("src", 0, 64 * KiB), old.subarray(0, 64 * KiB))).toBe(true);
      await guest.pwrite(0, pattern(512, 9));
      expect(same(await test.content("dst", 0, 64 * KiB), old.subarray(0, 64 * KiB))).toBe(true);
    },
  );

  it("gives the snapshot up instead with break-snapshot", async () => {
    const { test, guest, driver } = await setup({
      spec: { "on-cbw-error": "break-snapshot" },
      targetFaults: [{ event: "none", iotype: "write", errno: EIO, sector: 0, once: true }],
    });
    await guest.pwrite(0, pattern(512, 9));
    expect(driver.snapshotError).toBe("EIO");
    await guest.pwrite(128 * KiB, pattern(512, 9));
    expect(test.graph.kernels.isZero(await test.content("dst"))).toBe(true);
    expect(same(await test.content("src", 0, 512), pattern(512, 9))).toBe(true);
  });

  it("copies only what its bitmap has", async () => {
    const { test, guest } = await setup({
      spec: { bitmap: { node: "src", name: "b0" } },
      before: async (t) => {
        createDirtyBitmap(t.graph.node("src"), { name: "b0" }).bitmap.set(0, 64 * KiB);
      },
    });
    await guest.pwrite(0, pattern(128 * KiB, 9));
    const copied = await test.content("dst");
    expect(same(copied.subarray(0, 64 * KiB), old.subarray(0, 64 * KiB))).toBe(true);
    expect(test.graph.kernels.isZero(copied.subarray(64 * KiB))).toBe(true);
  });

  it("lets the guest's write fail after cbw-timeout, and a drain waits for what goes on", async () => {
    const { test, guest, filter } = await setup({ spec: { "cbw-timeout": 3 } });
    const target = test.graph.node("dst").driver;
    const { pwrite } = target;
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    target.pwrite = async (offset, buffer, flags) => {
      await gate;
      await pwrite!.call(target, offset, buffer, flags);
    };
    const { clock } = test.host;
    await expect(clock.settle(guest.pwrite(0, pattern(512, 9)))).rejects.toMatchObject({ code: "ETIMEDOUT" });
    expect(clock.nowMs()).toBe(3000);
    expect(filter.driver.ownWork?.isBusy?.()).toBe(true);
    open();
    await clock.idle();
    expect(filter.driver.ownWork?.isBusy?.()).toBe(false);
    expect(same(await test.content("dst", 0, 64 * KiB), old.subarray(0, 64 * KiB))).toBe(true);
  });

  it("does not flush the target with the guest's disk", async () => {
    const { test, guest } = await setup();
    test.graph.node("dst").driver.flush = () => Promise.reject(new Error("flushed"));
    let flushes = 0;
    test.graph.node("src").driver.flush = async () => void (flushes += 1);
    await guest.pwrite(0, pattern(512, 9));
    await guest.flush();
    expect(flushes).toBe(1);
  });

  it("keeps writers away from the source behind its back, and others from resizing the target", async () => {
    const { test } = await setup();
    await expect(test.edge("src", Perm.write)).rejects.toMatchObject({ code: "EPERM" });
    await expect(test.edge("dst", Perm.resize)).rejects.toMatchObject({ code: "EPERM" });
    await expect(test.edge("dst", Perm.write)).resolves.toBeDefined();
  });

  it.each([
    [{ "on-cbw-error": "ignore" }, "Parameter 'on-cbw-error' does not accept value 'ignore'"],
    [{ bitmap: { node: "src", name: "nope" } }, "Dirty bitmap 'nope' not found"],
    [{ target: undefined }, 'A block device must be specified for "target"'],
  ])("refuses %o", async (spec, message) => {
    await expect(setup({ spec })).rejects.toThrow(message);
  });
});
