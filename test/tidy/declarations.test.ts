/**
 * The declarations that the package ships (.ci/declarations.mjs): each entry's, whole, with the words that a program sees.
 */
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { entriesOf } from "../../.ci/declarations.mjs";
import { leaveShownWords } from "../../.ci/shown-words.mjs";
import { root } from "../support/root.ts";

let folder = "";

function write(name: string, text: string): void {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

const text = (name: string): string => readFileSync(join(folder, name), "utf8");
const leave = (): void => leaveShownWords(folder, [join(folder, "index.d.ts")]);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-types-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

it("ships an entry's declarations, what several share, and nothing else", () => {
  const types = join(root, "build", "types");
  const shipped = readdirSync(types, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  const asked = new Set(entriesOf(root));
  for (const name of asked)
    for (const [, other = ""] of readFileSync(join(types, name), "utf8").matchAll(/ from '(\.[^']+)\.js'/g))
      asked.add(`${join(dirname(name), other)}.d.ts`);
  expect(asked.size).toBeGreaterThan(15);
  expect(shipped.toSorted()).toEqual([...asked].toSorted());
});

it("keeps the opening of an entry, and of no other file", () => {
  const opening = "/**\n * What the file is for.\n */\n";
  write("index.d.ts", `${opening}import { type A } from "./a/a.ts";\nexport * from "./b.js";\n`);
  write("a/a.d.ts", `${opening}import "../d.d.ts";\nexport type A = import("../c.js").C;\n`);
  write("b.d.ts", "/** Of B. */\nexport declare const b: 1;\n");
  write("c.d.ts", `/** Of C. */\nexport interface C {\n    c: 1;\n}\n`);
  leave();
  expect(text("index.d.ts")).toContain("What the file is for.");
  expect(text("a/a.d.ts")).toMatch(/^import /);
  expect(text("b.d.ts")).toMatch(/^\/\*\* Of B. \*\//);
  expect(text("c.d.ts")).toBe("export interface C {\n\tc: 1;\n}\n");
});

it("keeps the words of what is handed on and of what that adds to, and of nothing else", () => {
  const words = "/** What it is. */\n";
  write("index.d.ts", 'export { type A } from "./a.ts";\n');
  write(
    "a.d.ts",
    'import { Base, type Other } from "./base.ts";\nimport type { Part } from "./part.ts";\n' +
      `${words}export declare class A extends Base<Other> {\n  part: Part;\n}\n`,
  );
  write("base.d.ts", `${words}export declare class Base<T> {\n  /** Of t. */\n  t: T;\n}\n`);
  write("part.d.ts", `${words}export interface Part {\n  /**\n   * Of p.\n   */\n  p: 1;\n}\n`);
  leave();
  expect(text("a.d.ts")).toContain(words);
  expect(text("base.d.ts")).toContain("/** Of t. */");
  expect(text("part.d.ts")).toBe("export interface Part {\n  p: 1;\n}\n");
});

it("fails where an entry names what was not written", () => {
  write("index.d.ts", 'export * from "./gone.ts";\n');
  expect(leave).toThrow("names ./gone.ts, which is not there");
});
