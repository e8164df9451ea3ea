// SIGKILL at random moments while our driver writes into a qcow2 file: qemu-img finds no corruption (leaks are allowed), and
// qemu-img convert reads what was flushed, or what was written after it.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { inDirectory, must, tool } from "../interop/support/qcow2.ts";
import { DISK_SECTORS, randomness, SECTOR, story } from "./support/story.ts";

const KILLS = Number(process.env["QCOW2_KILLS"] ?? 50);
const only = process.env["QCOW2_KILL_SEED"];
const seeds = only ? [Number(only)] : Array.from({ length: KILLS }, (_, index) => index + 1);
const ROUNDS = 2;
// None larger than the 64 KiB that the story discards at a time.
const formats = [
  "cluster_size=64k",
  "cluster_size=4k",
  "cluster_size=512",
  "compat=0.10",
  "cluster_size=32k,refcount_bits=64",
];

/** Runs the writer and kills it some time after its first flush. Returns the last operation known to be flushed. */
function killWriter(
  program: string,
  path: string,
  options: { seed: number; afterMs: number },
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, path, String(options.seed)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    child.stdout.on("data", (chunk: Buffer) => {
      if (output === "") setTimeout(() => child.kill("SIGKILL"), options.afterMs);
      output += chunk.toString();
    });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code !== 0 && signal !== "SIGKILL") return reject(new Error(`the writer failed: ${errors}`));
      const flushed = [...output.matchAll(/F (\d+)\n/g)].at(-1);
      resolve(flushed ? Number(flushed[1]) : 0);
    });
  });
}

/** Throws unless each sector holds the last flushed value, or one of a later operation. */
function judge(content: Uint8Array, seed: number, flushed: number): void {
  const words = new Uint32Array(content.buffer, content.byteOffset, content.byteLength / 4);
  const last = new Uint32Array(DISK_SECTORS);
  const later: number[][] = [];
  let number = 1;
  for (const { operations } of story(seed)) {
    for (const { kind, sector, count } of operations) {
      const value = kind === "write" ? number : 0;
      if (number <= flushed) last.fill(value, sector, sector + count);
      else for (let at = sector; at < sector + count; at++) (later[at] ??= []).push(value);
      number += 1;
    }
  }
  for (let sector = 0; sector < DISK_SECTORS; sector++) {
    const part = words.subarray((sector * SECTOR) / 4, ((sector + 1) * SECTOR) / 4);
    // A write in place may be cut anywhere: then each word is old or new.
    for (const word of new Set(part)) {
      if (word === last[sector] || later[sector]?.includes(word)) continue;
      throw new Error(
        `sector ${sector} holds ${word}; flushed ${last[sector]}, later ${String(later[sector])}`,
      );
    }
  }
}

async function play(seed: number, program: string, directory: string): Promise<void> {
  const random = randomness(seed * 7919);
  const path = join(directory, `${seed}.qcow2`);
  const format = formats[seed % formats.length]!;
  const size = String(DISK_SECTORS * SECTOR);
  await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", format, path, size);
  const flushed = await killWriter(program, path, { seed, afterMs: random(random(2) ? 60 : 600) });
  const { code, output } = await tool("qemu-img", "check", "-f", "qcow2", path);
  // 0: clean; 3: leaked clusters only.
  expect([0, 3], `seed ${seed}, ${format}: ${output}`).toContain(code);
  const raw = join(directory, `${seed}.raw`);
  await must("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw);
  judge(await readFile(raw), seed, flushed);
}

test(`${seeds.length} kills leave sound images`, async () => {
  await inDirectory(async (directory) => {
    const program = join(directory, "writer.mjs");
    await build({
      entryPoints: [join(import.meta.dirname, "support/qcow2-writer.ts")],
      outfile: program,
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20",
      external: ["koffi"],
    });
    const queue = [...seeds];
    const worker = async (): Promise<void> => {
      for (let seed = queue.shift(); seed !== undefined; seed = queue.shift()) {
        await play(seed, program, directory).catch((error: unknown) => {
          console.error(
            `replay: QCOW2_KILL_SEED=${seed} npx vitest run --project crash test/crash/qcow2-kill.test.ts`,
          );
          throw error;
        });
        await must("rm", "-f", join(directory, `${seed}.qcow2`), join(directory, `${seed}.raw`));
      }
    };
    await Promise.all(Array.from({ length: ROUNDS }, worker));
  });
});
