/**
 * The examples of README.md and docs/RECIPES.md run as they stand, as a user of the package would run them.
 */
import { execFileSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { transformSync } from "esbuild";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { runnable, runnableNames } from "./docs.ts";
import { HANG_MS } from "../support/until.ts";

const RECIPES = "docs/RECIPES.md";
const program = join(root, "build", "cli", "main.js");

describe("examples", () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "blockwright-docs-"));
    mkdirSync(join(directory, "node_modules", ".bin"), { recursive: true });
    symlinkSync(root, join(directory, "node_modules", "blockwright"));
    symlinkSync(program, join(directory, "node_modules", ".bin", "blockwright"));
  });

  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  /** Runs a block as a user would; returns what it prints. */
  function run(name: string, page = RECIPES): string {
    const file = join(directory, `${name}.mjs`);
    writeFileSync(file, transformSync(runnable(page, name), { loader: "ts", target: "node20" }).code);
    return execFileSync(process.execPath, [file], { cwd: directory, encoding: "utf8", timeout: HANG_MS });
  }

  it("are all run here", () => {
    const known = ["bitmap", "browser", "client", "daemon", "enospc", "file", "fleecing"];
    expect(runnableNames(RECIPES).toSorted()).toEqual(known);
    expect(runnableNames("README.md")).toEqual(["example"]);
  });

  it("README's", () => {
    expect(runnable("README.md", "example").trim().split("\n").length).toBeLessThanOrEqual(11);
    expect(run("example", "README.md")).toMatch(/cancelled: false \} written while the job runs/);
  });

  it("a mirror that waits for room", () => {
    const text = run("enospc");
    expect(text).toMatch(/^write of \d+ bytes at \d+: no space$/m);
    expect(text).toContain("cancelled: true");
  });

  it("a backup that never fails its guest", () => {
    expect(run("fleecing")).toBe(
      "the target is full: the job waits, the guest does not\nthe copy begins with 1, the disk with 2\n",
    );
  });

  it("incremental backups", () => {
    expect(run("bitmap")).toBe("65536 bytes copied\n");
    const restored = ["convert", "--gate", "local", "-O", "raw", "tuesday.qcow2", "restored.raw"];
    execFileSync(process.execPath, [program, ...restored], { cwd: directory });
    const disk = openSync(join(directory, "restored.raw"), "r");
    const at = (offset: number): string => {
      const text = Buffer.alloc(7);
      readSync(disk, text, 0, 7, offset);
      return text.toString();
    };
    expect([at(0), at(512 * 1024 ** 2)]).toEqual(["Monday\0", "Tuesday"]);
    closeSync(disk);
  });

  it("one file out of a compressed image", () => {
    for (const name of ["partitioninfo", "ext2fs", "file-disk"])
      symlinkSync(join(root, "node_modules", name), join(directory, "node_modules", name));
    mkdirSync(join(directory, "tree", "etc"), { recursive: true });
    writeFileSync(join(directory, "tree", "etc", "motd"), "hello\n");
    writeFileSync(join(directory, "disk.raw"), "");
    truncateSync(join(directory, "disk.raw"), 12 * 1024 * 1024);
    const tool = (line: string, input = ""): unknown =>
      execFileSync(line.split(" ")[0]!, line.split(" ").slice(1), { cwd: directory, input });
    tool("sfdisk -q disk.raw", "label: gpt\nstart=2048, size=20480\n");
    tool("mke2fs -q -t ext4 -E offset=1048576 -d tree disk.raw 10M");
    tool("qemu-img convert -c -O qcow2 disk.raw disk.qcow2");
    expect(run("file")).toBe("hello\n\n");
  });

  it("qcow2 in a browser", () => {
    expect(run("browser")).toBe("hello\n");
  });

  it("the daemon and its client", () => {
    writeFileSync(join(directory, "disk.raw"), "");
    truncateSync(join(directory, "disk.raw"), 1024 * 1024);
    const PATH = [join(directory, "node_modules", ".bin"), process.env["PATH"]].join(delimiter);
    execFileSync("sh", ["-ec", runnable(RECIPES, "daemon")], {
      cwd: directory,
      env: { ...process.env, PATH },
      stdio: ["ignore", "ignore", "inherit"],
    });
    expect(run("client")).toMatch(/device: 'nightly',\s+len: 1048576,\s+offset: 1048576/);
  });
});
