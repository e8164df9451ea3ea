// Images made by qemu-img and qemu-io in many option sets read byte-equal to what qemu-img convert makes of them.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { inDirectory, must, openImage, readDisk } from "./support/qcow2.ts";

interface Case {
  name: string;
  options?: string;
  size?: string;
  /** qemu-io commands on the image. */
  io?: string[];
  /** qemu-img commands: words with IMG for the image and DIR for the directory. */
  before?: string[];
  after?: string[];
  create?: string[];
}

const writes = [
  "write -P 1 0 64k",
  "write -P 2 100000 70000",
  "write -P 3 3M 200k",
  "write -z 1M 128k",
  "discard 32k 64k",
];
const backing = ["create -f raw DIR/base.raw 3M", "io raw DIR/base.raw write -P 9 0 3M"];
const longBacking = ["create -f raw DIR/base.raw 9M", "io raw DIR/base.raw write -P 7 0 9M"];
const cases: Case[] = [
  { name: "defaults" },
  { name: "version 2", options: "compat=0.10" },
  ...[512, 1024, 2048, 4096, 8192, 16384, 32768, 131072, 262144, 524288, 1048576, 2097152].map((size) => ({
    name: `clusters of ${size}`,
    options: `cluster_size=${size}`,
  })),
  ...[1, 2, 4, 8, 32, 64].map((bits) => ({
    name: `refcounts of ${bits} bits`,
    options: `refcount_bits=${bits}`,
  })),
  { name: "lazy refcounts", options: "lazy_refcounts=on" },
  ...["metadata", "falloc", "full"].map((mode) => ({
    name: `preallocation ${mode}`,
    options: `preallocation=${mode}`,
  })),
  { name: "shorter backing", before: backing, create: ["-b", "DIR/base.raw", "-F", "raw"] },
  { name: "longer backing", before: longBacking, create: ["-b", "DIR/base.raw", "-F", "raw"] },
  {
    name: "version 2 over a backing",
    options: "compat=0.10,cluster_size=4096",
    before: backing,
    create: ["-b", "DIR/base.raw", "-F", "raw"],
  },
  {
    name: "snapshot",
    io: ["write -P 5 0 2M"],
    after: ["snapshot -c one IMG", "io qcow2 IMG write -P 6 1M 300k"],
  },
  { name: "resized", after: ["resize -q IMG 8M", "io qcow2 IMG write -P 8 7M 1M"] },
  { name: "shrunk", after: ["resize -q --shrink IMG 2M"] },
  { name: "compressed", after: ["convert -c -O qcow2 IMG DIR/c.qcow2", "mv DIR/c.qcow2 IMG"] },
  {
    name: "compressed, small clusters",
    after: ["convert -c -O qcow2 -o cluster_size=512 IMG DIR/c.qcow2", "mv DIR/c.qcow2 IMG"],
  },
  {
    name: "compressed, large clusters",
    after: ["convert -c -O qcow2 -o cluster_size=2M IMG DIR/c.qcow2", "mv DIR/c.qcow2 IMG"],
  },
  { name: "odd size", size: "5242368" },
];

async function steps(words: readonly string[], directory: string): Promise<void> {
  for (const line of words) {
    const text = line.replaceAll("DIR", directory).replaceAll("IMG", join(directory, "a.qcow2"));
    const parts = text.split(" ");
    if (parts[0] === "mv") await must("mv", ...parts.slice(1));
    else if (parts[0] === "io")
      await must("qemu-io", "-f", parts[1]!, "-c", parts.slice(3).join(" "), parts[2]!);
    else await must("qemu-img", ...parts);
  }
}

for (const { name, options, size = "5M", io = writes, before = [], after = [], create = [] } of cases) {
  test(`reads what qemu-img made: ${name}`, async () => {
    await inDirectory(async (directory) => {
      const path = join(directory, "a.qcow2");
      await steps(before, directory);
      const flags = [
        ...(options ? ["-o", options] : []),
        ...create.map((word) => word.replace("DIR", directory)),
      ];
      await must("qemu-img", "create", "-q", "-f", "qcow2", ...flags, path, size);
      await must("qemu-io", "-f", "qcow2", ...io.flatMap((line) => ["-c", line]), path);
      await steps(after, directory);
      await must("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, join(directory, "truth.raw"));
      const truth = await readFile(join(directory, "truth.raw"));
      const image = await openImage(path, { "read-only": true });
      const content = await readDisk(image);
      await image.close();
      expect(content.byteLength).toBe(truth.byteLength);
      expect(Buffer.compare(content, truth)).toBe(0);
    });
  });
}
