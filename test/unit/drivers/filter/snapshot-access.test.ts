// snapshot-access over copy-before-write: the old content, whatever the guest writes meanwhile.
import { describe, expect, it } from "vitest";
import { createDirtyBitmap } from "../../../../src/block/model/dirty-bitmap.ts";
import { Perm } from "../../../../src/block/model/permissions.ts";
import type { Child } from "../../../../src/block/model/node.ts";
import { KiB, MiB, TestGraph, pattern, same } from "../../support/graph.ts";

interface Setup {
  test: TestGraph;
  guest: Child;
  reader: Child;
}

async function setup(spec: Record<string, unknown> = {}, faults?: Record<string, unknown>[]): Promise<Setup> {
  const test = new TestGraph();
  await test.disk("src", MiB);
  await test.disk("dst", MiB, faults);
  await test.fill("src", 0, MiB, 1);
  createDirtyBitmap(test.graph.node("src"), { name: "b0" }).bitmap.set(0, 128 * KiB);
  await test.graph.add({
    driver: "copy-before-write",
    "node-name": "cbw",
    file: "src",
    target: "dst",
    ...spec,
  });
  const guest = await test.edge("cbw");
  await test.graph.add({ driver: "snapshot-access", "node-name": "snap", file: "cbw", discard: "unmap" });
  return { test, guest, reader: await test.edge("snap", Perm.consistentRead | Perm.write) };
}

async function read(reader: Child, offset = 0, bytes = MiB): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes);
  await reader.pread(offset, buffer);
  return buffer;
}

const old = pattern(MiB, 1);

describe("snapshot-access", () => {
  it("shows the old content after guest writes, piece by piece from both places", async () => {
    const { guest, reader } = await setup();
    expect(same(await read(reader), old)).toBe(true);
    await guest.pwrite(100 * KiB, pattern(200 * KiB, 9));
    await guest.pwriteZeroes(900 * KiB, 512);
    expect(same(await read(reader), old)).toBe(true);
    expect(same(await read(guest), old)).toBe(false);
  });

  it("holds a guest write back until a read of the same clusters is over", async () => {
    const { test, guest, reader } = await setup();
    const { driver } = test.graph.node("src");
    const pread = driver.pread.bind(driver);
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    driver.pread = async (offset, buffer, flags) => {
      driver.pread = pread;
      await gate;
      await pread(offset, buffer, flags);
    };
    const reading = read(reader, 0, 64 * KiB);
    let written = false;
    const writing = Promise.resolve(guest.pwrite(0, pattern(64 * KiB, 9))).then(() => (written = true));
    await test.host.clock.idle();
    expect(written).toBe(false);
    open();
    expect(same(await reading, old.subarray(0, 64 * KiB))).toBe(true);
    await writing;
  });

  it("shows only what its bitmap has", async () => {
    const { reader } = await setup({ bitmap: { node: "src", name: "b0" } });
    expect(same(await read(reader, 0, 128 * KiB), old.subarray(0, 128 * KiB))).toBe(true);
    await expect(read(reader, 64 * KiB, 128 * KiB)).rejects.toMatchObject({ code: "EACCES" });
  });

  it("gives up what is discarded, which then is not copied any more", async () => {
    const { test, guest, reader } = await setup();
    await reader.pdiscard(32 * KiB, 192 * KiB);
    await expect(read(reader, 64 * KiB, 512)).rejects.toMatchObject({ code: "EACCES" });
    expect(same(await read(reader, 0, 64 * KiB), old.subarray(0, 64 * KiB))).toBe(true);
    await guest.pwrite(64 * KiB, pattern(512, 9));
    expect(test.graph.kernels.isZero(await test.content("dst"))).toBe(true);
  });

  it("ends with the snapshot (break-snapshot)", async () => {
    const faults = [{ event: "none", iotype: "write", errno: 5, sector: 0 }];
    const { guest, reader } = await setup({ "on-cbw-error": "break-snapshot" }, faults);
    await guest.pwrite(0, pattern(512, 9));
    await expect(read(reader, 512 * KiB, 512)).rejects.toMatchObject({ code: "EACCES" });
  });

  it("knows the zeroes and takes no writes", async () => {
    const { test, reader } = await setup();
    await test.graph.node("src").driver.pdiscard!(256 * KiB, 64 * KiB);
    expect(await reader.blockStatus(256 * KiB, MiB - 256 * KiB)).toMatchObject({
      bytes: 64 * KiB,
      zero: true,
      allocated: true,
    });
    await expect(reader.pwrite(0, new Uint8Array(512))).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  it("needs a copy-before-write node to read from", async () => {
    const { test } = await setup();
    await test.graph.add({ driver: "snapshot-access", "node-name": "bad", file: "dst" });
    await expect(read(await test.edge("bad", Perm.consistentRead))).rejects.toMatchObject({
      code: "ENOTSUP",
    });
  });
});
