// Formats without a driver are named and refused instead of being taken for raw disks; and what was guessed to be raw stays so.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, test } from "vitest";
import { createEngine, createImage, nodeHost, fileGate, openNode, probe } from "../../../src/node.ts";

const directory = mkdtempSync(join(tmpdir(), "blockwright-foreign-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const SIZE = 1 << 16;
let count = 0;

/** A file with these bytes at an offset, from the end if that is negative. */
function fileWith(bytes: Uint8Array | string, at = 0) {
  const content = Buffer.alloc(SIZE);
  Buffer.from(bytes as string, "latin1").copy(content, at < 0 ? SIZE + at : at);
  const filename = join(directory, `f${count++}`);
  writeFileSync(filename, content);
  return { driver: "file", filename } as const;
}

const foreign: readonly [format: string, bytes: string, at?: number][] = [
  ["vmdk", "KDMV\x01\0\0\0"],
  ["vmdk", "COWD\x01\0\0\0"],
  ["vmdk", "# Disk DescriptorFile\nversion=1\n"],
  ["vdi", "\x7f\x10\xda\xbe", 64],
  ["vhdx", "vhdxfile"],
  ["vpc", "conectix"],
  ["vpc", "conectix", -512],
  ["dmg", "koly", -512],
  ["qed", "QED\0"],
  ["qcow", "QFI\xfb\0\0\0\x01"],
  ["parallels", "WithoutFreeSpace"],
  ["parallels", "WithouFreSpacExt"],
  ["bochs", "Bochs Virtual HD Image"],
  ["cloop", "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0"],
];

describe.each(foreign)("%s, by %j at %s", (format, bytes, at) => {
  it("is named, and never read as a disk by a guess", async () => {
    const file = fileWith(bytes, at);
    expect(await probe(file)).toEqual({ format, supported: false, guessed: false });
    const top = join(directory, `top${count++}`);
    await createImage({
      driver: "qcow2",
      file: { driver: "file", filename: top },
      size: SIZE,
      "backing-file": file.filename,
    });
    const overlay = { driver: "qcow2", file: { driver: "file", filename: top } } as const;
    await expect(openNode(overlay, { gate: fileGate("local", nodeHost()) })).rejects.toThrow(
      `Image is in ${format} format, which is not supported`,
    );
  });
});

test("what has a driver is told, with the way to open it", async () => {
  const filename = join(directory, "real.qcow2");
  await createImage({ driver: "qcow2", file: { driver: "file", filename }, size: SIZE });
  const found = await probe({ driver: "file", filename });
  expect(found).toMatchObject({ format: "qcow2", supported: true, guessed: false });
  await using disk = await openNode(found.spec!);
  expect(disk.length).toBe(SIZE);
});

describe("a disk that was guessed to be raw", () => {
  const headers: readonly [format: string, bytes: string, at: number][] = [
    ...foreign.map(([format, bytes, at = 0]): [string, string, number] => [format, bytes, at]),
    ["qcow2", "QFI\xfb\0\0\0\x03", 0],
    ["luks", "LUKS\xba\xbe\0\x01", 0],
  ];

  it.each(headers.filter(([, , at]) => at >= 0))(
    "does not become %s by %j at %s, and takes everything else",
    async (_format, bytes, at) => {
      const file = fileWith("");
      const { spec, ...found } = await probe(file);
      expect(found).toEqual({ format: "raw", supported: true, guessed: true });
      await using engine = createEngine();
      await using disk = await openNode(spec!, { engine });
      const header = Buffer.from(bytes, "latin1");
      for (const length of [header.length, 512, 4096]) {
        const whole = new Uint8Array(Math.max(length, header.length));
        whole.set(header);
        await expect(disk.write(at, whole)).rejects.toMatchObject({
          code: "EPERM",
          message: expect.stringContaining("Operation not permitted") as string,
        });
      }
      // Piece by piece neither: the sector as a whole is looked at.
      await disk.write(at, header.subarray(0, 1));
      await expect(disk.write(at + 1, header.subarray(1))).rejects.toMatchObject({ code: "EPERM" });
      await disk.write(at, Buffer.alloc(header.length, 1));
      await disk.write(512, header);
      await disk.writeZeroes(0, 512);
      await disk.close();
      await using plain = await openNode({ driver: "raw", file }, { engine });
      await plain.write(at, header);
    },
  );
});
