// The level of compression of `convert -c`: what is written is shorter by a higher one, and the real qemu-img reads it.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { runVerb } from "../support/verb-client.ts";

const directory = mkdtempSync(join(tmpdir(), "blockwright-level-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

beforeAll(() => {
  const texts = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
  const text = Buffer.concat(texts.map((name) => readFileSync(join(root, "docs", name))));
  writeFileSync(join(directory, "text.raw"), text.subarray(0, 128 * 1024));
});

/** The length of what the conversion writes, bytes. */
function lengthOf(type: string, ...level: string[]): number {
  const name = `${type}${level.join("")}.qcow2`;
  const words = ["convert", "-c", ...level, "-f", "raw", "-O", "qcow2", "-o", `compression_type=${type}`];
  const { status, stderr } = runVerb([...words, "text.raw", name], { cwd: directory });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const compared = execFileSync("qemu-img", ["compare", "text.raw", "-f", "raw", "-F", "qcow2", name], {
    cwd: directory,
  });
  expect(compared.toString()).toBe("Images are identical.\n");
  return statSync(join(directory, name)).size;
}

it.each([
  ["zlib", "9"],
  ["zstd", "19"],
])("%s", (type, high) => {
  const [fast, usual, small] = [
    lengthOf(type, "--compression-level=1"),
    lengthOf(type),
    lengthOf(type, `--compression-level=${high}`),
  ];
  expect(small).toBeLessThan(fast);
  expect(small).toBeLessThanOrEqual(usual);
});

it.each([
  ["-c --compression-level 10", "the level of compression must be between 1 and 9 for zlib"],
  ["-c --compression-level 0", "Invalid level of compression: 0"],
  [
    "-c --compression-level 23 -o compression_type=zstd",
    "the level of compression must be between 1 and 22 for zstd",
  ],
  ["--compression-level 3", "--compression-level requires use of -c flag"],
])("%s is refused, and leaves no target", (line, why) => {
  const words = ["convert", ...line.split(" "), "-f", "raw", "-O", "qcow2", "text.raw", "none.qcow2"];
  const { status, stderr } = runVerb(words, { cwd: directory });
  expect([status, stderr]).toEqual([1, expect.stringContaining(why)]);
  expect(() => statSync(join(directory, "none.qcow2"))).toThrow(/ENOENT/);
});
