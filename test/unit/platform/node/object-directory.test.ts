// Drafts of objects that programs which were killed have left in a directory: what is nobody's goes, what may be somebody's stays.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ObjectDirectory } from "../../../../src/platform/node/object-directory.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bw-objects-"));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

const drafts = (): string[] => readdirSync(join(folder, "tmp"));

/** A process of its own that puts an object of a GiB, once its draft is there. */
async function amidPut(): Promise<ChildProcess> {
  const program = join(folder, "put.mjs");
  const contents = `import { ObjectDirectory } from "./src/platform/node/object-directory.ts";
    await new ObjectDirectory(${JSON.stringify(folder)}).put("a", new Uint8Array(2 ** 30));`;
  await build({
    stdin: { contents, resolveDir: process.cwd() },
    outfile: program,
    bundle: true,
    format: "esm",
    platform: "node",
  });
  const child = spawn(process.execPath, [program], { stdio: ["ignore", "ignore", "inherit"] });
  while (!readdirSync(folder).includes("tmp") || drafts().length === 0) {
    if (child.exitCode !== null) throw new Error("it ended before it was there");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return child;
}

it("a draft goes once its process is dead, and not before", async () => {
  const child = await amidPut();
  const objects = new ObjectDirectory(folder);
  child.kill("SIGSTOP");
  await objects.sweep();
  expect(drafts()).toHaveLength(1);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(drafts()).toHaveLength(1);
  await objects.sweep();
  expect(drafts()).toEqual([]);
});

it("a draft of another machine goes when it is a day old", async () => {
  const objects = new ObjectDirectory(folder);
  await objects.put("a", new Uint8Array(1));
  for (const name of ["0123456789ab-1-2-3", "fedcba"]) writeFileSync(join(folder, "tmp", name), "");
  await objects.sweep();
  expect(drafts()).toHaveLength(2);
  const before = Date.now() / 1000 - 25 * 3600;
  for (const name of drafts()) utimesSync(join(folder, "tmp", name), before, before);
  await objects.sweep();
  expect(drafts()).toEqual([]);
});

it("tells facts of what they are asked of, and of the others the names", async () => {
  const objects = new ObjectDirectory(folder);
  for (const name of ["f/b", "f/a"]) await objects.put(name, new Uint8Array(3));
  const found = await objects.list("f/", (name) => name === "f/b");
  expect(found.map(({ name, bytes }) => ({ name, bytes }))).toEqual([
    { name: "f/a", bytes: 0 },
    { name: "f/b", bytes: 3 },
  ]);
  expect((await objects.list("f/")).map(({ bytes }) => bytes)).toEqual([3, 3]);
});

it("what has gone meanwhile is neither made anew nor taken for empty", async () => {
  const root = join(folder, "objects");
  const objects = new ObjectDirectory(root, { stays: true });
  await objects.put("backups/a", new Uint8Array(1));
  await expect(objects.get("backups/b")).rejects.toMatchObject({ code: "ENOENT" });
  expect(await objects.list("packs/")).toEqual([]);
  rmSync(root, { recursive: true });
  // What is there where a file system was mounted.
  mkdirSync(root);
  const uses = [
    () => objects.put("packs/b", new Uint8Array(1)),
    () => objects.putIfAbsent("backups/b", new Uint8Array(1)),
    () => objects.get("backups/a"),
    () => objects.list("backups/"),
  ];
  for (const use of uses)
    await expect(use()).rejects.toMatchObject({
      code: "ESTALE",
      message: expect.stringContaining(`the directory '${root}', or its file system, has gone`) as string,
    });
  expect(readdirSync(root)).toEqual([]);
});

it("drafts that nobody has finished and a new file system's own folder are nothing, and all else is something", async () => {
  const objects = new ObjectDirectory(folder);
  for (const name of ["lost+found", "tmp"]) mkdirSync(join(folder, name));
  writeFileSync(join(folder, "tmp", "0123456789ab-12-345-0123456789abcdef"), "half");
  expect(await objects.isEmpty()).toBe(true);
  writeFileSync(join(folder, "tmp", "letter"), "dear");
  expect(await objects.isEmpty()).toBe(false);
  rmSync(join(folder, "tmp"), { recursive: true });
  expect(await objects.isEmpty()).toBe(true);
  mkdirSync(join(folder, "home"));
  expect(await objects.isEmpty()).toBe(false);
});
