// Folders with those that they lie in: made once, and refused with the system's error, also where Node's own way never ends.
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { makeFolders } from "../../../../src/platform/node/folders.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bw-folders-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

it("are made with those above them, and told to be there", () => {
  expect(makeFolders(join(folder, "a", "b", "c"), 0o700)).toBe(true);
  expect(statSync(join(folder, "a", "b", "c")).mode & 0o777).toBe(0o700);
  expect(makeFolders(join(folder, "a", "b", "c"))).toBe(false);
  expect(makeFolders(relative(process.cwd(), join(folder, "d", "e", "/")))).toBe(true);
  symlinkSync(join(folder, "a"), join(folder, "link"));
  expect(makeFolders(join(folder, "link"))).toBe(false);
  expect(makeFolders(join(folder, "link", "x"))).toBe(true);
  expect(existsSync(join(folder, "a", "x"))).toBe(true);
});

it("are refused where they can't be", () => {
  writeFileSync(join(folder, "file"), "");
  symlinkSync(join(folder, "none"), join(folder, "nowhere"));
  expect(() => makeFolders(join(folder, "file"))).toThrow("EEXIST");
  expect(() => makeFolders(join(folder, "file", "x"))).toThrow("ENOTDIR");
  expect(() => makeFolders(join(folder, "nowhere"))).toThrow("ENOENT");
  expect(() => makeFolders("")).toThrow("ENOENT");
});

it.skipIf(process.platform !== "linux")("are refused in /proc, at once", () => {
  expect(() => makeFolders("/proc/none")).toThrow("ENOENT");
  expect(() => makeFolders("/proc/none/of/these")).toThrow("ENOENT");
});
