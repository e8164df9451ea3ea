// Memory of a conversion does not follow the image's size: a sparse image of 4 GiB with 256 MiB of data, both ways and
// compressed, by the command as users run it. The peak is the kernel's own (VmHWM), asked for as the process ends.
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, ftruncateSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";

const MiB = 2 ** 20;
const LIMIT_MIB = 250;
const cli = join(process.cwd(), "build", "cli", "main.js");
const tell =
  'import{readFileSync}from"node:fs";process.on("exit",()=>{' +
  'console.error(/VmHWM:.*/.exec(readFileSync("/proc/self/status","utf8"))[0])})';
const dir = mkdtempSync(join(tmpdir(), "blockwright-memory-"));

/** Runs the command; its peak resident memory in MiB. */
function peakOf(...words: string[]): number {
  const args = ["--import", `data:text/javascript,${encodeURIComponent(tell)}`, cli, ...words];
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: dir, encoding: "utf8" });
  expect(status, stderr).toBe(0);
  return Number(/VmHWM:\s+(\d+) kB/.exec(stderr)?.[1]) / 1024;
}

beforeAll(() => {
  const fd = openSync(join(dir, "sparse.raw"), "w");
  const piece = new Uint32Array(MiB / 4);
  for (let i = 0; i < 256; i++) {
    // A sixteenth of each piece is noise, so that compression has both to do.
    for (let word = 0; word < piece.length; word++)
      piece[word] = word % 16 !== 0 ? i : Math.imul(word + i, 0x9e3779b1);
    writeSync(fd, new Uint8Array(piece.buffer), 0, MiB, i * 16 * MiB);
  }
  ftruncateSync(fd, 4096 * MiB);
  closeSync(fd);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

it.skipIf(!existsSync("/proc/self/status")).each([
  ["raw to qcow2", ["-f", "raw", "-O", "qcow2", "sparse.raw", "plain.qcow2"]],
  ["raw to compressed qcow2", ["-c", "-f", "raw", "-O", "qcow2", "sparse.raw", "packed.qcow2"]],
  ["qcow2 to raw", ["-f", "qcow2", "-O", "raw", "plain.qcow2", "plain.raw"]],
  ["compressed qcow2 to raw", ["-f", "qcow2", "-O", "raw", "packed.qcow2", "packed.raw"]],
])(`converts %s in less than ${LIMIT_MIB} MiB`, (_name, words) => {
  const peak = peakOf("convert", ...words);
  expect(peak).toBeGreaterThan(20);
  expect(peak).toBeLessThan(LIMIT_MIB);
  execFileSync("qemu-img", ["compare", "-q", ...words.slice(-2)], { cwd: dir });
});
