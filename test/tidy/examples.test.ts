/**
 * The programs of examples/ do what they say, as a user of the package would run them.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { transformSync } from "esbuild";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { root } from "../support/root.ts";

const program = join(root, "build", "cli", "main.js");

describe("examples/", () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "blockwright-examples-"));
    mkdirSync(join(directory, "node_modules"));
    symlinkSync(root, join(directory, "node_modules", "blockwright"));
    blockwright("create", "-q", "-f", "qcow2", "disk.qcow2", "16M");
    blockwright("io", "-c", "write -P 1 1M 2M", "disk.qcow2");
  });

  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  function blockwright(...words: string[]): string {
    return execFileSync(process.execPath, [program, ...words], { cwd: directory, encoding: "utf8" });
  }

  function identical(a: string, b: string): void {
    expect(blockwright("compare", "--gate", "same-dir", a, b)).toBe("Images are identical.\n");
  }

  function example(
    name: string,
    ...words: string[]
  ): { status: number | null; stdout: string; stderr: string } {
    const code = readFileSync(join(root, "examples", `${name}.ts`), "utf8");
    const file = join(directory, `${name}.mjs`);
    writeFileSync(file, transformSync(code, { loader: "ts", target: "node20" }).code);
    return spawnSync(process.execPath, [file, ...words], { cwd: directory, encoding: "utf8" });
  }

  it("are all named in their README, and say how they are called", () => {
    const names = readdirSync(join(root, "examples")).filter((name) => name.endsWith(".ts"));
    expect(names.length).toBeGreaterThan(0);
    const readme = readFileSync(join(root, "examples", "README.md"), "utf8");
    for (const name of names) {
      expect(readme).toContain(`[${name}](${name})`);
      const { status, stderr } = example(name.replace(/\.ts$/, ""));
      expect([status, stderr.startsWith(`usage: ${name} `)], name).toEqual([2, true]);
    }
  });

  it("convert: a compressed image, its progress, and no target for a source that can't be read", () => {
    const done = example("convert", "disk.qcow2", "out.qcow2");
    expect(done).toMatchObject({ status: 0, stdout: "" });
    expect(done.stderr).toMatch(/\r100 %\nqcow2, 16777216 bytes: out\.qcow2\n$/);
    identical("disk.qcow2", "out.qcow2");
    // The L2 table begins within a cluster.
    const image = readFileSync(join(directory, "disk.qcow2"));
    const l1 = Number(image.readBigUInt64BE(40));
    image.writeBigUInt64BE((1n << 63n) | 0x10200n, l1);
    writeFileSync(join(directory, "broken.qcow2"), image);
    expect(example("convert", "broken.qcow2", "none.qcow2").status).toBe(1);
    expect(existsSync(join(directory, "none.qcow2"))).toBe(false);
    // What is there stays.
    expect(example("convert", "disk.qcow2", "out.qcow2").stderr).toContain("EEXIST");
    identical("disk.qcow2", "out.qcow2");
  });

  it("live-mirror: the disk lies in the new file, with all that was written meanwhile", () => {
    const { status, stdout } = example("live-mirror", "disk.qcow2", "new.qcow2");
    const [, counted, said] = /^counted to (\d+), the new file says (\d+)\n$/.exec(stdout) ?? [];
    expect([status, said]).toEqual([0, counted]);
    expect(blockwright("io", "-r", "-c", "read -P 1 1M 2M", "new.qcow2")).toContain("read 2097152/2097152");
  });

  it("nightly-backup: a chain, each night what was written since, the newest as the disk is", () => {
    for (const night of [2, 3, 4]) {
      expect(example("nightly-backup", "disk.qcow2", "nights").stderr).toBe("");
      blockwright("io", "-c", `write -P ${night} ${night}M 64k`, "disk.qcow2");
    }
    expect(example("nightly-backup", "disk.qcow2", "nights").stdout).toBe("nights/0003.qcow2\n");
    identical("disk.qcow2", "nights/0003.qcow2");
    const map = JSON.parse(
      blockwright("map", "--output=json", "nights/0003.qcow2", "--gate", "same-dir"),
    ) as {
      depth: number;
      length: number;
      data: boolean;
    }[];
    const own = map.filter(({ depth, data }) => depth === 0 && data);
    expect(own.reduce((sum, { length }) => sum + length, 0)).toBe(65536);
  });

  it("gzip-disk: there and back", () => {
    expect(example("gzip-disk", "disk.qcow2", "disk.gz").status).toBe(0);
    blockwright("create", "-q", "-f", "qcow2", "back.qcow2", "16M");
    expect(example("gzip-disk", "-d", "disk.gz", "back.qcow2").status).toBe(0);
    identical("disk.qcow2", "back.qcow2");
    // A packed file that breaks off.
    const packed = readFileSync(join(directory, "disk.gz"));
    writeFileSync(join(directory, "short.gz"), packed.subarray(0, packed.byteLength / 2));
    const broken = example("gzip-disk", "-d", "short.gz", "back.qcow2");
    expect([broken.status, broken.stderr.includes("unexpected end of file")]).toEqual([1, true]);
  });
});
