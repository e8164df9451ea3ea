/**
 * What the build leaves of the declarations (.ci/reached-types.mjs): those that an entry's types reach, by whatever way they are named.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { leaveReachedTypes } from "../../.ci/reached-types.mjs";

let folder = "";

function write(name: string, text: string): void {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-types-"));
  const exports = {
    ".": { types: "./build/types/index.d.ts", default: "./build/index.js" },
    "./x": "./x.json",
  };
  write("package.json", JSON.stringify({ exports }));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

it("keeps what is imported, exported and named within a type, and removes the rest", () => {
  const opening = "/**\n * What the file is for.\n */\n";
  write("build/types/index.d.ts", `${opening}import { type A } from "./a/a.ts";\nexport * from "./b.js";\n`);
  write("build/types/a/a.d.ts", `${opening}import "../d.d.ts";\nexport type A = import("../c.js").C;\n`);
  write("build/types/b.d.ts", "/** Of B. */\nexport declare const b: 1;\n");
  write("build/types/c.d.ts", `/** Of C. */\nexport interface C {\n  c: 1;\n}\n`);
  write("build/types/d.d.ts", "export {};\n");
  write("build/types/f/f.d.ts", 'export * from "../a/a.ts";\n');
  leaveReachedTypes(folder);
  const text = (name: string): string => readFileSync(join(folder, "build/types", name), "utf8");
  expect(text("index.d.ts")).toContain("What the file is for.");
  expect(text("a/a.d.ts")).toMatch(/^import /);
  expect(text("b.d.ts")).toMatch(/^\/\*\* Of B. \*\//);
  expect(text("c.d.ts")).toBe("export interface C {\n  c: 1;\n}\n");
  expect(text("d.d.ts")).toBe("export {};\n");
  expect(existsSync(join(folder, "build/types/f/f.d.ts"))).toBe(false);
});

it("keeps the words of what is handed on and of what that adds to, and of nothing else", () => {
  const words = "/** What it is. */\n";
  write("build/types/index.d.ts", 'export { type A } from "./a.ts";\n');
  write(
    "build/types/a.d.ts",
    'import { Base, type Other } from "./base.ts";\nimport type { Part } from "./part.ts";\n' +
      `${words}export declare class A extends Base<Other> {\n  part: Part;\n}\n`,
  );
  write("build/types/base.d.ts", `${words}export declare class Base<T> {\n  /** Of t. */\n  t: T;\n}\n`);
  write("build/types/part.d.ts", `${words}export interface Part {\n  /**\n   * Of p.\n   */\n  p: 1;\n}\n`);
  leaveReachedTypes(folder);
  const text = (name: string): string => readFileSync(join(folder, "build/types", name), "utf8");
  expect(text("a.d.ts")).toContain(words);
  expect(text("base.d.ts")).toContain("/** Of t. */");
  expect(text("part.d.ts")).toBe("export interface Part {\n  p: 1;\n}\n");
});

it("keeps of a face what it is asked for, through others, and what hands all on whole", () => {
  write(
    "build/types/index.d.ts",
    'import type { A as Own } from "./a/index.ts";\nexport * from "./all/index.ts";\n' +
      'export type Both = Own | import("./a/index.ts").D;\n',
  );
  write(
    "build/types/a/index.d.ts",
    '/** Of a. */\nexport { type A, type B } from "./a.ts";\nexport { c } from "./c.ts";\nexport { type X as D } from "../b/index.ts";\n',
  );
  write(
    "build/types/b/index.d.ts",
    'export { type X, type Y } from "./x.ts";\nexport { z } from "./z.ts";\n',
  );
  write("build/types/all/index.d.ts", 'export { e } from "./e.ts";\n');
  const leaves = { "a/a": "A", "a/c": "c", "b/x": "X", "b/z": "z", "all/e": "e" };
  for (const [name, word] of Object.entries(leaves))
    write(`build/types/${name}.d.ts`, `export type ${word} = 1;\n`);
  leaveReachedTypes(folder);
  const text = (name: string): string => readFileSync(join(folder, "build/types", name), "utf8");
  expect(text("a/index.d.ts")).toBe(
    'export { type A } from "./a.ts";\nexport { type X as D } from "../b/index.ts";\n',
  );
  expect(text("b/index.d.ts")).toBe('export { type X } from "./x.ts";\n');
  expect(text("all/index.d.ts")).toBe('export { e } from "./e.ts";\n');
  const left = Object.keys(leaves).filter((name) => existsSync(join(folder, `build/types/${name}.d.ts`)));
  expect(left).toEqual(["a/a", "b/x", "all/e"]);
});

it("fails where an entry names what was not written", () => {
  write("build/types/index.d.ts", 'export * from "./gone.ts";\n');
  expect(() => leaveReachedTypes(folder)).toThrow("names ./gone.ts, which is not there");
});
