// raw: windows into a file, refusals in QEMU's words, status, resize and permissions.
import { describe, expect, it } from "vitest";
import { Perm } from "../../../../src/block/model/permissions.ts";
import { KiB, MiB, pattern, TestGraph } from "../../support/graph.ts";

const window = { offset: 64 * KiB, size: 128 * KiB };

async function rawOver(
  options: Record<string, unknown>,
  faults?: Record<string, unknown>[],
): Promise<TestGraph> {
  const test = new TestGraph(MiB);
  await test.disk("disk", MiB, faults);
  await test.graph.add({ driver: "raw", "node-name": "raw", file: "disk", ...options });
  return test;
}

describe("raw", () => {
  it("shows the file as it is", async () => {
    const test = await rawOver({});
    const edge = await test.edge("raw");
    await edge.pwrite(4096, pattern(4096, 1));
    expect(test.graph.node("raw").length).toBe(MiB);
    expect(await test.content("disk", 4096, 4096)).toEqual(pattern(4096, 1));
  });

  it("shows a window by offset and size", async () => {
    const test = await rawOver(window);
    const edge = await test.edge("raw");
    expect(test.graph.node("raw").length).toBe(window.size);
    await edge.pwrite(0, pattern(window.size, 1));
    expect(await test.content("disk", window.offset, window.size)).toEqual(pattern(window.size, 1));
    expect((await test.content("disk", 0, window.offset)).every((byte) => byte === 0)).toBe(true);
    const beyond = window.offset + window.size;
    expect((await test.content("disk", beyond)).every((byte) => byte === 0)).toBe(true);
    await edge.pwriteZeroes(512, 512);
    expect((await test.content("disk", window.offset + 512, 512)).every((byte) => byte === 0)).toBe(true);
  });

  it("ends where the file ends when only an offset is given", async () => {
    const test = await rawOver({ offset: 1000 });
    expect(test.graph.node("raw").length).toBe(MiB - 1000);
  });

  it("never lets a request out of its window", async () => {
    const test = await rawOver(window);
    const { driver } = test.graph.node("raw");
    const code = (request: () => unknown): Promise<unknown> =>
      Promise.resolve()
        .then(request)
        .catch((error: { code: string }) => error.code);
    expect(await code(() => driver.pread(window.size - 512, new Uint8Array(1024), 0))).toBe("EINVAL");
    expect(await code(() => driver.pwrite?.(window.size, new Uint8Array(512), 0))).toBe("ENOSPC");
    expect(await code(() => driver.pdiscard?.(window.size, 512))).toBe("ENOSPC");
  });

  it.each([
    [{ offset: 11 * MiB }, "Offset (11534336) cannot be greater than size of the containing file (10485760)"],
    [
      { offset: MiB, size: 10 * MiB },
      "The sum of offset (1048576) and size (10485760) has to be smaller or equal to the  actual size of the containing file (10485760)",
    ],
    [{ size: 1000 }, "Specified size is not multiple of 512"],
    [{ offset: -1 }, "Parameter 'offset' expects a non-negative number below 2^64"],
    [{ offset: "1" }, "Invalid parameter type for 'offset', expected: integer"],
  ])("refuses %j in QEMU's words", async (options, message) => {
    const test = new TestGraph(MiB);
    await test.disk("disk", 10 * MiB);
    const opened = test.graph.add({ driver: "raw", "node-name": "raw", file: "disk", ...options });
    await expect(opened).rejects.toMatchObject({ message, code: "EINVAL" });
    expect(test.graph.node("disk").parents.size).toBe(0);
  });

  it("passes the status of the file on, shifted", async () => {
    const test = await rawOver(window);
    const edge = await test.edge("raw");
    await edge.pwrite(64 * KiB, pattern(64 * KiB, 1));
    expect(await edge.blockStatus(0, window.size)).toMatchObject({
      bytes: 64 * KiB,
      data: false,
      zero: true,
    });
    const status = await edge.blockStatus(64 * KiB + 512, window.size);
    expect(status).toMatchObject({ bytes: 64 * KiB - 512, data: true, allocated: true });
    expect(status.map).toEqual({ node: test.graph.node("disk"), offset: window.offset + 64 * KiB + 512 });
  });

  it("grows with its file, unless its size is fixed", async () => {
    const test = await rawOver({ offset: 512 });
    const edge = await test.edge("raw", Perm.all);
    await edge.truncate(2 * MiB, { exact: true, preallocation: "off" });
    expect(test.graph.node("disk").length).toBe(2 * MiB + 512);
    expect(test.graph.node("raw").length).toBe(2 * MiB);

    const fixed = await rawOver(window);
    const resize = (await fixed.edge("raw", Perm.all)).truncate(MiB, { exact: true, preallocation: "off" });
    await expect(resize).rejects.toMatchObject({
      code: "ENOTSUP",
      message: "Cannot resize fixed-size raw disks",
    });
  });

  it("takes write and resize of the file only when its parent does", async () => {
    const test = await rawOver(window);
    const reader = await test.edge("raw", Perm.consistentRead);
    const file = test.graph.node("raw").file;
    expect(file?.perm).toBe(Perm.consistentRead);
    await test.graph.setPermissions(reader, { perm: Perm.consistentRead | Perm.write, shared: Perm.all });
    expect(file?.perm).toBe(Perm.consistentRead | Perm.write);
  });

  it("tells blkdebug below of its reads and writes", async () => {
    const test = await rawOver({}, [
      { event: "write_aio", errno: 28, iotype: "write" },
      { event: "read_aio", iotype: "read" },
    ]);
    const edge = await test.edge("raw");
    await expect(edge.pwrite(0, new Uint8Array(512))).rejects.toMatchObject({ code: "ENOSPC" });
    await expect(edge.pread(0, new Uint8Array(512))).rejects.toMatchObject({ code: "EIO" });
    await edge.pwriteZeroes(0, 64 * KiB);
  });
});
