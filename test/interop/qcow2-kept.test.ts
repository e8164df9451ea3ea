// What an image holds that we do not know stays through every rewrite of the header, as it does with the real tools: unknown
// header extensions and compatible bits. Unknown autoclear bits go when the image is opened for writing, and not before. An
// image that its last user left dirty is repaired by whoever opens it for writing next.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { inDirectory, must, openImage, type OpenImage, tool } from "./support/qcow2.ts";

const COMPATIBLE = 1n << 40n;
const AUTOCLEAR = 1n << 41n;
const UNKNOWN = 0x12345678;
const TEXT = "kept byte for byte";

/** An image with an extension and bits that nobody knows. */
async function makeStrange(path: string): Promise<void> {
  await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "4M");
  await must("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 0 1M", path);
  const image = readFileSync(path);
  const at = image.readUInt32BE(100);
  const record = Buffer.alloc(8 + Math.ceil(TEXT.length / 8) * 8);
  record.writeUInt32BE(UNKNOWN, 0);
  record.writeUInt32BE(TEXT.length, 4);
  record.write(TEXT, 8);
  image.copy(image, at + record.length, at, 2048);
  record.copy(image, at);
  image.writeBigUInt64BE(COMPATIBLE, 80);
  image.writeBigUInt64BE(AUTOCLEAR, 88);
  writeFileSync(path, image);
}

/** The text of the unknown extension, and the unknown bits. */
function strange(path: string): { text: string | undefined; compatible: bigint; autoclear: bigint } {
  const image = readFileSync(path);
  let text: string | undefined;
  for (let at = image.readUInt32BE(100); image.readUInt32BE(at) !== 0;) {
    const bytes = image.readUInt32BE(at + 4);
    if (image.readUInt32BE(at) === UNKNOWN) text = image.toString("latin1", at + 8, at + 8 + bytes);
    at += 8 + Math.ceil(bytes / 8) * 8;
  }
  return { text, compatible: image.readBigUInt64BE(80), autoclear: image.readBigUInt64BE(88) & AUTOCLEAR };
}

const changes: Record<string, (image: OpenImage, directory: string) => unknown> = {
  "a write": ({ disk }) => disk.pwrite(2 ** 20, new Uint8Array(2 ** 20).fill(1)),
  "a resize": ({ disk }) => disk.root!.truncate(2 ** 23, { exact: true, preallocation: "off" }),
  "a resize that moves the L1 table": ({ disk }) =>
    disk.root!.truncate(2 ** 33, { exact: true, preallocation: "off" }),
  "a snapshot": ({ disk }) => disk.node!.driver.snapshots!()!.create({ name: "one" }),
  "a backing file": ({ disk }) =>
    disk.node!.driver.headerBacking!.change({ filename: "base.raw", format: "raw" }),
};

test.each(Object.keys(changes))("%s keeps what is unknown", async (name) => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await makeStrange(path);
    const before = readFileSync(path);
    const reader = await openImage(path, { "read-only": true });
    await reader.close();
    expect(readFileSync(path).equals(before), "a reader changes nothing").toBe(true);
    const image = await openImage(path);
    await changes[name]!(image, directory);
    await image.close();
    expect(strange(path)).toEqual({ text: TEXT, compatible: COMPATIBLE, autoclear: 0n });
    const { code, output } = await tool("qemu-img", "check", "-f", "qcow2", path);
    if (name !== "a backing file") expect(`${code} ${output}`).toMatch(/^0 No errors/);
    // The same by the real program.
    await must("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", path);
    expect(strange(path)).toEqual({ text: TEXT, compatible: COMPATIBLE, autoclear: 0n });
  });
});

test.each([
  ["lazy refcounts that were never written", "lazy_refcounts=on"],
  ["ordinary refcounts", "lazy_refcounts=off"],
])(
  "a dirty image with %s is repaired when it is opened for writing, and only then",
  async (_name, options) => {
    await inDirectory(async (directory) => {
      const path = join(directory, "a.qcow2");
      await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", `cluster_size=4k,${options}`, path, "4M");
      await must("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 0 1M", path);
      const image = readFileSync(path);
      const block = Number(image.readBigUInt64BE(Number(image.readBigUInt64BE(48))));
      // As if its user had been killed: data and tables are there, the counts of the last 200 clusters are not.
      image.fill(0, block + 2 * (image.length / 4096 - 200), block + 2 * (image.length / 4096));
      image.writeUInt8(1, 79);
      writeFileSync(path, image);
      expect((await tool("qemu-img", "check", "-f", "qcow2", path)).code).toBe(2);
      const reader = await openImage(path, { "read-only": true });
      expect(reader.disk.node!.driver.getInfo!()!.isDirty).toBe(true);
      await reader.close();
      expect(readFileSync(path).equals(image), "a reader changes nothing").toBe(true);
      const writer = await openImage(path);
      expect(writer.disk.node!.driver.getInfo!()!.isDirty).toBe(false);
      await writer.disk.pwrite(2 ** 21, new Uint8Array(2 ** 20).fill(9));
      await writer.close();
      expect((await tool("qemu-img", "check", "-f", "qcow2", path)).output).toContain("No errors");
      await must("qemu-io", "-f", "qcow2", "-c", "read -q -P 3 0 1M", "-c", "read -q -P 9 2M 1M", path);
    });
  },
);

test("an image that is marked corrupt opens for reading only, in QEMU's words", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "1M");
    const image = readFileSync(path);
    image.writeUInt8(2, 79);
    writeFileSync(path, image);
    const words = "qcow2: Image is corrupt; cannot be opened read/write";
    await expect(openImage(path)).rejects.toThrow(words);
    const real = await tool("qemu-io", "-f", "qcow2", "-c", "write 0 512", path);
    expect(real.output.toLowerCase()).toContain("image is corrupt; cannot be opened read/write");
    const reader = await openImage(path, { "read-only": true });
    await reader.close();
    expect(readFileSync(path).equals(image)).toBe(true);
  });
});

test.each([
  ["as the header says", "on", undefined],
  ["as its user says", "off", true],
])(
  "with lazy refcounts, %s, the dirty bit is set from the first new cluster to the close",
  async (_name, flag, option) => {
    await inDirectory(async (directory) => {
      const path = join(directory, "a.qcow2");
      const killed = join(directory, "killed.qcow2");
      const words = `cluster_size=4k,lazy_refcounts=${flag}`;
      await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", words, path, "4M");
      const dirty = (): number => readFileSync(path).readUInt8(79) & 1;
      const image = await openImage(path, option === undefined ? {} : { "lazy-refcounts": option });
      expect(dirty(), "opened").toBe(0);
      await image.disk.pwrite(0, new Uint8Array(2 ** 20).fill(5));
      await image.disk.flush();
      expect(dirty(), "written").toBe(1);
      writeFileSync(killed, readFileSync(path));
      await image.disk.node!.driver.snapshots!()!.create({ name: "one" });
      await image.disk.pwrite(0, new Uint8Array(2 ** 20).fill(6));
      await image.disk.flush();
      expect(dirty(), "after a snapshot").toBe(1);
      await image.close();
      expect(dirty(), "closed").toBe(0);
      expect((await tool("qemu-img", "check", "-f", "qcow2", path)).output).toContain("No errors");
      // What a kill leaves the real program repairs, and finds whole.
      await must("qemu-io", "-f", "qcow2", "-c", "read -q -P 5 0 1M", "-c", "write -q -P 7 2M 4k", killed);
      expect((await tool("qemu-img", "check", "-f", "qcow2", killed)).output).toContain("No errors");
    });
  },
);
