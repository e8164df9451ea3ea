/**
 * Every code block of README and docs/ compiles under `strict`, against the declarations that the package ships: as a module of its own
 * in a project with the newest TypeScript and with the oldest that is promised. What a fragment takes from the page around it is
 * declared here.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { codeBlocks } from "./docs.ts";
import { readText, repositoryFiles } from "./source.ts";

/** What a fragment's names are where the page has told of them before, by a word of the fragment. */
const given: readonly (readonly [word: string, declaration: string])[] = [
  ["engine", 'declare const engine: import("blockwright/browser").RemoteEngine;'],
  ["store", 'declare const store: { driver: "opfs"; filename: string };'],
  ["machine", 'declare const machine: Omit<import("v86").V86Options, "hda">;'],
  ["disk", 'declare const disk: import("blockwright/v86").PageGuestDisk;'],
  ["emulator", 'declare const emulator: import("v86").V86;'],
];

const pages = repositoryFiles(/^README\.md$|^docs\/.*\.md$/);
let project: string;

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), "blockwright-types-"));
  const modules = join(project, "node_modules");
  mkdirSync(join(modules, "@types"), { recursive: true });
  symlinkSync(root, join(modules, "blockwright"));
  for (const name of ["@types/node", "v86", "file-disk", "partitioninfo"])
    symlinkSync(join(root, "node_modules", name), join(modules, name));
  // ext2fs has no types of its own.
  const ext2fs = join(modules, "ext2fs");
  mkdirSync(ext2fs);
  writeFileSync(join(ext2fs, "package.json"), '{ "name": "ext2fs", "types": "index.d.ts" }');
  writeFileSync(
    join(ext2fs, "index.d.ts"),
    `import type { promises } from "node:fs";
export function withMountedDisk<T>(disk: object, offset: number, body: (fs: { promises: typeof promises }) => T): Promise<T>;
`,
  );
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

/** A block as a module: fragments get what they take from their page. */
function moduleOf(code: string): string {
  const defines = (word: string): boolean => new RegExp(`\\b(const|let) ${word}\\b`).test(code);
  const missing = given.filter(([word]) => new RegExp(`\\b${word}\\b`).test(code) && !defines(word));
  return [...missing.map(([, declaration]) => declaration), code, "export {};", ""].join("\n");
}

function compile(typescript: string, lib: readonly string[]): string {
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: "es2022",
    lib,
    types: ["node"],
    module: "nodenext",
    moduleResolution: "nodenext",
    noUncheckedIndexedAccess: true,
    skipLibCheck: true,
    preserveSymlinks: true,
  };
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
  const tsc = join(root, "node_modules", typescript, "bin", "tsc");
  try {
    return execFileSync(process.execPath, [tsc, "-p", project], { encoding: "utf8" });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

it("the examples of README and docs/ compile under strict", () => {
  const blocks = pages.flatMap((page) =>
    codeBlocks(readText(page), ["js", "ts"]).map((code, at) => ({ page, at, code })),
  );
  expect(blocks.length).toBeGreaterThan(9);
  for (const { page, at, code } of blocks)
    writeFileSync(join(project, `${page.replaceAll(/\W/g, "-")}-${at + 1}.ts`), moduleOf(code));
  expect(
    compile("typescript", ["es2023", "dom", "dom.iterable", "dom.asynciterable", "esnext.disposable"]),
  ).toBe("");
});
