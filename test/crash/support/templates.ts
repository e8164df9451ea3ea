// The images that stories start from: made once per run with the real tools, copied for each story.
import { writeFile } from "node:fs/promises";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { must } from "../../support/tools.ts";
import { DISK_BYTES } from "./kinds.ts";

const KiB = 1024;

/** Cluster sizes of the sets of templates. */
export const clusterSizes = [4 * KiB, 64 * KiB] as const;

/** Fills the directory with base.qcow2, mid.qcow2, top.qcow2 (a chain), disk.raw, and empty targets. */
export async function makeTemplates(
  directory: string,
  { clusterSize, random }: { clusterSize: number; random: (limit: number) => number },
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const path = (name: string): string => join(directory, name);
  const options = `cluster_size=${clusterSize}`;
  const create = async (name: string, backing?: string): Promise<void> => {
    const link = backing === undefined ? [] : ["-b", backing, "-F", "qcow2"];
    const words = ["create", "-q", "-f", "qcow2", "-o", options, ...link, path(name)];
    await must("qemu-img", ...words, String(DISK_BYTES));
  };
  await writeFile(path("disk.raw"), noise(random, DISK_BYTES));
  await must("qemu-img", "convert", "-O", "qcow2", "-o", options, path("disk.raw"), path("base.qcow2"));
  await create("mid.qcow2", "base.qcow2");
  await create("top.qcow2", "mid.qcow2");
  await scribble(path("mid.qcow2"), random);
  await scribble(path("top.qcow2"), random);
  await create("target.qcow2");
  await must("qemu-img", "create", "-q", "-f", "raw", path("target.raw"), String(DISK_BYTES));
}

/** Bytes with holes: three quarters are data that differs everywhere. */
function noise(random: (limit: number) => number, bytes: number): Uint8Array {
  const content = new Uint8Array(bytes);
  const words = new Uint32Array(content.buffer);
  const unit = (16 * KiB) / 4;
  for (let at = 0; at < words.length; at += unit) {
    if (random(4) === 0) continue;
    for (let index = at; index < at + unit; index++) words[index] = 0x80000000 + random(2 ** 31);
  }
  return content;
}

/** Writes data and zeroes at random places. */
async function scribble(path: string, random: (limit: number) => number): Promise<void> {
  const source = `${path}.noise`;
  await writeFile(source, noise(random, 512 * KiB));
  const commands: string[] = [];
  for (let count = 0; count < 16; count++) {
    const bytes = (1 + random(96)) * 4 * KiB;
    const offset = random((DISK_BYTES - bytes) / 512) * 512;
    const how = random(4) === 0 ? "-z" : `-s ${source}`;
    commands.push("-c", `write -q ${how} ${offset} ${bytes}`);
  }
  await must("qemu-io", "-f", "qcow2", ...commands, path);
}
