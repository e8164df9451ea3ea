/**
 * The rules over the sources: first that each rule catches what it is for, then that the repository obeys it.
 */
import { describe, expect, it } from "vitest";
import { assertsOf, largeFunctions } from "./asserts.ts";
import { formatNameBreaches, layerBreaches } from "./layers.ts";
import { floorsOf, roomBreaches } from "./rooms.ts";
import { oneListBreaches } from "./one-list.ts";
import { oneWayBreaches } from "./one-way.ts";
import {
  bannedBreaches,
  docstringBreaches,
  functionLengths,
  headerBreaches,
  linesOf,
  ninth,
  sizeBreaches,
} from "./rules.ts";
import { head, parse, report, type Rule, sources } from "./source.ts";

const library = sources(/^src\/.*\.ts$/);
const everything = sources(/^(src|test|assembly|\.ci)\/.*\.(ts|mjs)$|^[^/]+\.ts$/);

/** The breaches of a snippet, as text. */
function breaches(rule: Rule, path: string, text: string): string[] {
  return rule(parse(path, text)).map(({ what }) => what);
}

const long = (lines: number): string => "\n".repeat(lines - 1);

describe("the rules catch", () => {
  it.each([
    ["an import upward", "src/base/a.ts", 'import { b } from "../block/b.ts";'],
    ["a type import upward", "src/base/a.ts", 'import type { B } from "../block/b.ts";'],
    ["a type's import()", "src/base/a.ts", 'type B = import("../block/b.ts").B;'],
    ["an import() upward", "src/base/a.ts", 'void import("../block/b.ts");'],
    ["a re-export upward", "src/base/a.ts", 'export * from "../block/b.ts";'],
    ["an import of an entry", "src/job/a.ts", 'import { b } from "../index.ts";'],
    ["a sibling driver", "src/drivers/format/raw.ts", 'import { b } from "../format/qcow2/b.ts";'],
    [
      "a sibling of another kind",
      "src/drivers/filter/throttle.ts",
      'import { b } from "../protocol/file.ts";',
    ],
    ["a sibling server", "src/server/monitor/a.ts", 'import { b } from "../export/b.ts";'],
    ["the platform, below the entries", "src/job/a.ts", 'import { b } from "../platform/node/b.ts";'],
    ["the other platform", "src/platform/browser/a.ts", 'import { b } from "../node/b.ts";'],
    ["a format in a job", "src/job/a.ts", 'import { b } from "../drivers/format/raw.ts";'],
    ["a driver in a server", "src/server/monitor/a.ts", 'import { b } from "../../drivers/filter/b.ts";'],
    ["node: outside its homes", "src/node.ts", 'import { b } from "node:fs";'],
    ["a package that has no home", "src/cli/a.ts", 'import { b } from "left-pad";'],
    ["a folder that is in no layer", "src/utils/a.ts", "export {};"],
  ])("%s", (_what, path, text) => {
    expect(breaches(layerBreaches, path, text)).toHaveLength(1);
  });

  it.each([
    ["downward", "src/block/a.ts", 'import { b } from "../base/b.ts";'],
    ["within a unit", "src/drivers/format/qcow2/a.ts", 'import { b } from "./b.ts";'],
    ["what a layer's units share", "src/drivers/format/raw.ts", 'import { b } from "../options.ts";'],
    ["a job's own filter", "src/job/a.ts", 'import { b } from "../drivers/filter/b.ts";'],
    ["the platform, from an entry", "src/node.ts", 'import { b } from "./platform/node/b.ts";'],
    ["node: at home", "src/platform/node/a.ts", 'import { b } from "node:fs";'],
  ])("no import %s", (_what, path, text) => {
    expect(breaches(layerBreaches, path, text)).toEqual([]);
  });

  it.each([
    ["a room above", "src/block/model/a.ts", 'import type { B } from "../io/b.ts";'],
    ["a room beside", "src/job/mirror/a.ts", 'import { b } from "../stream/b.ts";'],
    ["a file above the rooms", "src/drivers/format/qcow2/data/a.ts", 'import { b } from "../index.ts";'],
    ["a folder that is no room", "src/block/utils/a.ts", "export {};"],
  ])("%s", (_what, path, text) => {
    expect(breaches(roomBreaches, path, text)).toHaveLength(1);
  });

  it.each([
    ["a room below", "src/block/graph/a.ts", 'import { b } from "../model/b.ts";'],
    ["its own room", "src/block/graph/a.ts", 'import { b } from "./b.ts";'],
    ["from above the rooms", "src/drivers/format/qcow2/index.ts", 'import { b } from "./check/b.ts";'],
    ["another house", "src/job/core/a.ts", 'import { b } from "../../block/graph/b.ts";'],
  ])("no import of %s", (_what, path, text) => {
    expect(breaches(roomBreaches, path, text)).toEqual([]);
  });

  it.each([
    ["Date.now()", "const now = Date.now();"],
    ["new Date()", "const now = new Date();"],
    ["Math.random()", "const one = Math.random();"],
    ["performance.now()", "const now = performance.now();"],
    ["setTimeout", "setTimeout(() => {}, 1);"],
    ["console", "console.log(1);"],
    ["process", "const { pid } = process;"],
    ["Buffer", "const bytes = Buffer.alloc(1);"],
    ["Buffer as a type", "function read(bytes: Buffer) {}"],
    ["any", "let anything: any;"],
  ])("%s in a portable layer", (_what, text) => {
    expect(breaches(bannedBreaches, "src/block/a.ts", text)).toHaveLength(1);
  });

  it("no clock of the Host, no date of a given time, and the platform's own calls", () => {
    const portable =
      "host.setTimeout(1); const when = new Date(5); const x = { process: 1, now: host.clock.now() };";
    expect(breaches(bannedBreaches, "src/block/a.ts", portable)).toEqual([]);
    expect(
      breaches(bannedBreaches, "src/platform/node/a.ts", "setTimeout(run, Date.now()); Buffer;"),
    ).toEqual([]);
  });

  it("long files and functions, but not long suites", () => {
    expect(breaches(sizeBreaches, "src/a.ts", `${long(501)};`)).toHaveLength(1);
    expect(breaches(sizeBreaches, "src/a.ts", `${long(500)};\n`)).toEqual([]);
    expect(breaches(sizeBreaches, "src/a.ts", `function f() {${long(71)}}`)).toHaveLength(1);
    expect(breaches(sizeBreaches, "src/a.ts", `const f = () => {${long(70)}};`)).toEqual([]);
    expect(breaches(sizeBreaches, "src/a.ts", `class A { m() {${long(71)}} }`)).toHaveLength(1);
    expect(breaches(sizeBreaches, "test/a.ts", `describe.each([1])("a", () => {${long(90)}});`)).toEqual([]);
    expect(breaches(sizeBreaches, "test/a.ts", `it("a", () => {${long(90)}});`)).toHaveLength(1);
  });

  it("long functions on the whole", () => {
    expect(
      functionLengths(parse("src/a.ts", `function f() {${long(9)}}\nconst g = () => 1;\nh(() => 1);`)),
    ).toEqual([9, 1]);
    expect(ninth([1, 2, 3, 4, 5, 6, 7, 8, 9, 100])).toBe(9);
  });

  it("how many asserts there are", () => {
    const text = `function f() {\n  assert(a, "a");\n  if (b) throw new AssertionError("b");\n  g(assert);\n}\nconst h = () => 1;`;
    const source = parse("src/a.ts", text);
    expect([assertsOf(source), largeFunctions(source)]).toEqual([2, 1]);
  });

  it("missing headers and docstrings", () => {
    expect(breaches(headerBreaches, "src/a.ts", "export {};")).toHaveLength(1);
    expect(breaches(headerBreaches, "src/a.ts", "// What this file is for: a test.\nexport {};")).toEqual([]);
    const undocumented = "export const a = 1; export type B = 1; export class C {} export function d() {}";
    expect(breaches(docstringBreaches, "src/a.ts", undocumented)).toHaveLength(4);
    expect(breaches(docstringBreaches, "src/a.ts", "/** One. */\nexport const a = 1;\n// Two.\n")).toEqual(
      [],
    );
  });

  it("a format's name in a job, in a type and as a member", () => {
    expect(breaches(formatNameBreaches, "src/job/a.ts", 'const driver = "qcow2";')).toHaveLength(1);
    expect(breaches(formatNameBreaches, "src/api/a.ts", 'interface A { driver: "raw" }')).toHaveLength(1);
    expect(breaches(formatNameBreaches, "src/cli/a.ts", "const tables = { luks: [] };")).toHaveLength(1);
    expect(breaches(formatNameBreaches, "src/drivers/format/a.ts", 'const driver = "qcow2";')).toEqual([]);
  });

  it.each([
    ["a function for at once only", "src/api/a.ts", "function copyNow() {}"],
    ["a private method", "src/api/a.ts", "class A { #readNow() {} }"],
    ["an arrow", "src/api/a.ts", "const statusNow = () => 1;"],
    ["a second hook in the contract", "src/block/model/a.ts", "interface D { preadSync(): void }"],
    ["a driver's second function", "src/drivers/filter/a.ts", "class A { pwriteLater() {} }"],
    [
      "a wait for the arena in a request",
      "src/drivers/filter/a.ts",
      "await this.node.services.arena.acquire(1);",
    ],
    ["another", "src/block/io/a.ts", "await arena.acquire(1);"],
  ])("%s", (_what, path, text) => {
    expect(breaches(oneWayBreaches, path, text)).toHaveLength(1);
  });

  it.each([
    ["a list", "src/cli/a.ts", 'const all = ["auto", "stop", "enospc", "ignore", "report"];'],
    ["a type", "src/api/a.ts", 'type Mode = "off" | "metadata" | "falloc" | "full" | undefined;'],
    ["a list that the program has", "src/cli/a.ts", 'const gates = ["deny", "same-dir", "local", "all"];'],
  ])("an enumeration again, as %s", (_what, path, text) => {
    expect(breaches(oneListBreaches, path, text)).not.toEqual([]);
  });

  it("no part of an enumeration, and none in its home", () => {
    expect(breaches(oneListBreaches, "src/cli/a.ts", 'const some = ["metadata", "falloc", "full"];')).toEqual(
      [],
    );
    const list = 'const modes = ["off", "metadata", "falloc", "full"];';
    expect(breaches(oneListBreaches, "src/wire/qapi/a.ts", list)).toEqual([]);
  });

  it("no verb, no part of one, and no lock", () => {
    const text = "class A { pread() {} pwriteZeroes() {} #preadPadded() {} preadSnapshot() {} now() {} }";
    expect(breaches(oneWayBreaches, "src/drivers/filter/a.ts", text)).toEqual([]);
    expect(breaches(oneWayBreaches, "src/drivers/filter/a.ts", "descriptor.acquire();")).toEqual([]);
    expect(breaches(oneWayBreaches, "src/job/a.ts", "await arena.acquire(1);")).toEqual([]);
  });

  it("a rule that looked at nothing", () => {
    expect(() => report([], layerBreaches)).toThrow("no file");
  });
});

describe("the sources", () => {
  it.each([
    ["import downward only", layerBreaches],
    ["keep their rooms in order", roomBreaches],
    ["name no format outside its home", formatNameBreaches],
    ["leave clock, chance and output to the Host", bannedBreaches],
    ["have a docstring on every export", docstringBreaches],
    ["have one way of I/O", oneWayBreaches],
    ["list every enumeration once", oneListBreaches],
  ])("%s", (_what, rule) => {
    expect(report(library, rule)).toBe(head(library.length));
  });

  it.each([
    ["src/block", 3],
    ["src/drivers/format/qcow2", 5],
    ["src/job", 4],
  ])("%s has %i floors of rooms", (house, floors) => {
    expect(floorsOf(house)).toBe(floors);
  });

  it("keep files and functions short", () => {
    expect(report(everything, sizeBreaches)).toBe(head(everything.length));
  });

  it("are mostly much shorter than the limits", () => {
    const functions = library.flatMap(functionLengths);
    expect(functions.length).toBeGreaterThan(3000);
    expect(ninth(functions)).toBeLessThanOrEqual(20);
    expect(library.length).toBeGreaterThan(400);
    expect(ninth(library.map(linesOf))).toBeLessThanOrEqual(250);
  });

  it.each([
    ["block", 7.5],
    ["job", 7],
    ["drivers/format/qcow2", 9],
  ])("state their invariants: src/%s has an assert to %s of its larger functions at least", (room, most) => {
    const files = library.filter(({ path }) => path.startsWith(`src/${room}/`));
    const sum = (count: (source: (typeof files)[number]) => number): number =>
      files.reduce((total, source) => total + count(source), 0);
    expect(sum(largeFunctions) / sum(assertsOf)).toBeLessThanOrEqual(most);
  });

  it("open with a comment on their purpose", () => {
    expect(report(everything, headerBreaches)).toBe(head(everything.length));
  });
});
