// Compressed clusters lie one behind the other, across host clusters, as qemu-img's do: an image of ours is no longer than
// its own of the same streams, sound, and stays so when streams that share host clusters are replaced.
import { open, stat, truncate } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { createEngine, openNode } from "../../src/node.ts";
import { randomness } from "../support/random.ts";
import { runVerb } from "../support/verb-client.ts";
import { inDirectory, must } from "./support/qcow2.ts";

const MiB = 1024 * 1024;

/** Disks whose clusters compress to a quarter, to a half, and here and there not at all. */
function disk(seed: number, size: number): Uint8Array {
  const random = randomness(seed);
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1024) {
    const kind = random(8);
    const alphabet = kind === 0 ? 256 : kind < 4 ? 16 : 4;
    for (let i = 0; i < 1024; i++) bytes[at + i] = random(alphabet);
  }
  return bytes;
}

/** What zlib of Node's own makes of the same bytes is up to this much longer than what qemu-img's zlib does. */
const ZLIB = 1.03;

describe.each([
  { options: "compression_type=zlib", most: ZLIB },
  { options: "compression_type=zstd", most: 1.005 },
  { options: "compression_type=zstd,cluster_size=4k", most: 1.005 },
  { options: "compression_type=zlib,cluster_size=512", most: ZLIB },
  { options: "compression_type=zlib,refcount_bits=1", most: ZLIB },
  { options: "compression_type=zlib,refcount_bits=2,cluster_size=16k", most: ZLIB },
  { options: "compression_type=zstd,cluster_size=2M", most: 1.005 },
])("compressed with $options", ({ options, most }) => {
  it("an image is as long as qemu-img's", async () => {
    await inDirectory(async (directory) => {
      const [raw, ours, theirs] = ["raw", "ours", "theirs"].map((name) => join(directory, name));
      const handle = await open(raw!, "w");
      await handle.write(disk(7, 6 * MiB));
      await handle.close();
      await truncate(raw!, 32 * MiB);
      await must("qemu-img", "convert", "-c", "-W", "-m", "1", "-O", "qcow2", "-o", options, raw!, theirs!);
      convertOurs(raw!, ours!, options);

      const [own, real] = await Promise.all([stat(ours!), stat(theirs!)]);
      expect(own.size / real.size).toBeLessThan(most);
      await must("qemu-img", "check", "-q", ours!);
      await must("qemu-img", "compare", "-q", raw!, ours!);
    });
  });

  it("stays sound when streams are replaced by data, one by one", async () => {
    await inDirectory(async (directory) => {
      const [raw, ours] = ["raw", "ours"].map((name) => join(directory, name));
      const content = disk(11, 2 * MiB);
      const handle = await open(raw!, "w");
      await handle.write(content);
      convertOurs(raw!, ours!, options);
      const engine = createEngine();
      const node = await openNode({ driver: "qcow2", file: { driver: "file", filename: ours! } }, { engine });
      const random = randomness(13);
      for (let i = 0; i < 40; i++) {
        const at = random(content.length / 512) * 512;
        const piece = content.subarray(at, at + 512 * (1 + random(16))).fill(i + 1);
        await node.write(at, piece);
        await handle.write(piece, 0, piece.length, at);
      }
      await node.close();
      await engine.close();
      await handle.close();
      await must("qemu-img", "check", "-q", ours!);
      await must("qemu-img", "compare", "-q", raw!, ours!);
    });
  });
});

/** Converts by our program; `options` as -o has them. */
function convertOurs(from: string, to: string, options: string): void {
  const args = ["convert", "-c", "-O", "qcow2", "-o", options, from, to];
  expect(runVerb(args, { cwd: dirname(to) })).toMatchObject({ status: 0, stderr: "" });
}
