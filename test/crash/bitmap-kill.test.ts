// SIGKILL of a program that writes to an image, as it opens it, while its bitmap records, while bitmaps are stored, and as it closes.
// After each an incremental backup is made by what the bitmap says: none has to be a full one, and all are the disk.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { clearBitmap } from "../../src/block/bitmap/commands.ts";
import { findDirtyBitmap } from "../../src/block/model/dirty-bitmap.ts";
import { inDirectory, must, openImage, readDisk, tool } from "../interop/support/qcow2.ts";
import { randomness } from "../support/random.ts";

const KILLS = Number(process.env["BITMAP_KILLS"] ?? 24);
const SIZE = 32 * 2 ** 20;
const first = Number(process.env["BITMAP_KILL_SEED"] ?? 1);

/** What a program was doing when it was killed; `closed`: it was too quick. */
type Moment = "starting" | "recording" | "closing" | "closed";

/** Runs the writer and kills it some time after it has said `after`. */
function killWriter(
  program: string,
  path: string,
  { seed, after, delayMs }: { seed: number; after: "" | "R" | "C"; delayMs: number },
): Promise<Moment> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, path, String(seed)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let errors = "";
    let isDue = false;
    const killSoon = (): void => {
      if (isDue || !output.includes(after)) return;
      isDue = true;
      setTimeout(() => child.kill("SIGKILL"), delayMs);
    };
    child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      killSoon();
    });
    killSoon();
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code !== 0 && signal !== "SIGKILL") return reject(new Error(`the writer failed: ${errors}`));
      const moment = output.includes("C") ? "closing" : output.includes("R") ? "recording" : "starting";
      resolve(code === 0 ? "closed" : moment);
    });
  });
}

/** Copies what the bitmap says over the backup, which then is the disk; the bitmap begins anew. */
async function backUp(path: string, backup: Uint8Array): Promise<void> {
  const image = await openImage(path);
  const bitmap = findDirtyBitmap(image.graph.node("disk"), "b");
  expect(bitmap).toMatchObject({ inconsistent: false, enabled: true });
  const content = await readDisk(image);
  for (const { offset, bytes } of bitmap!.bitmap.extents(0, SIZE, 1e6))
    backup.set(content.subarray(offset, offset + bytes), offset);
  expect(Buffer.compare(content, backup)).toBe(0);
  clearBitmap(image.graph, { node: "disk", name: "b" });
  await image.close();
}

test(`${KILLS} kills lose nothing that a bitmap has to say`, async () => {
  await inDirectory(async (directory) => {
    const program = join(directory, "writer.mjs");
    await build({
      entryPoints: [join(import.meta.dirname, "support/bitmap-writer.ts")],
      outfile: program,
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20",
      external: ["koffi"],
    });
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, String(SIZE));
    await must("qemu-img", "bitmap", "--add", "-g", "4k", path, "b");
    const backup = new Uint8Array(SIZE);
    const moments = new Map<Moment, number>();
    for (let seed = first; seed < first + KILLS; seed++) {
      const random = randomness(seed * 104729);
      const after = (["", "R", "R", "C"] as const)[seed % 4]!;
      const delayMs = { "": 80 + random(200), R: random(60), C: random(12) }[after];
      const moment = await killWriter(program, path, { seed, after, delayMs });
      moments.set(moment, (moments.get(moment) ?? 0) + 1);
      await backUp(path, backup).catch((cause: unknown) => {
        throw new Error(`BITMAP_KILL_SEED=${seed}, killed while ${moment}`, { cause });
      });
    }
    const { code, output } = await tool("qemu-img", "check", path);
    // 0: clean; 3: leaked clusters only.
    expect([0, 3], output).toContain(code);
    console.log(`killed while ${[...moments].map(([moment, times]) => `${moment} ${times}`).join(", ")}`);
  });
});
