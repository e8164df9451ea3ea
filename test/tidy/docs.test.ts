/**
 * The documentation is true: its links lead somewhere, also in the package on npm, and it mentions every export, option,
 * command, event and limit that there is. Its examples, its matrix and its figures have files of their own beside this one.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { limits } from "../../src/base/limits.ts";
import { exportHandlers } from "../../src/server/nbd/commands.ts";
import { engineCommands } from "../../src/server/monitor/commands/index.ts";
import { schema } from "../../src/wire/qapi/index.ts";
import { root } from "../support/root.ts";
import { runVerb } from "../support/verb-client.ts";
import { codeWords, deadLink, exportsOf, linksOf } from "./docs.ts";
import { readText, repositoryFiles } from "./source.ts";

const pages = repositoryFiles(/^[^/]+\.md$|^docs\/.*\.md$/);

const helps = new Map<string, string>();

/** What `--help` says of the program or a verb. */
function help(verb = ""): string {
  const known =
    helps.get(verb) ?? runVerb([...verb.split(" "), "--help"].filter(Boolean), { cwd: root }).stdout;
  helps.set(verb, known);
  return known;
}

/** Whether a page of docs/ is left out; pictures are, too, which README.md shows on the web. */
function isLeftOut(path: string): boolean {
  const names = readText("docs/.npmignore").split("\n");
  return path.endsWith(".md") && path.startsWith("docs/") && names.includes(path.slice("docs/".length));
}

/** Whether npm packs a file. */
function isPacked(path: string): boolean {
  const { files } = JSON.parse(readText("package.json")) as { files: string[] };
  if (files.includes(`!${path}`) || isLeftOut(path)) return false;
  return files.some((entry) => path === entry || path.startsWith(`${entry}/`)) || path === "package.json";
}

/** For who works on the sources, which are not in the package. */
const ofTheRepository = [
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "docs/ARCHITECTURE.md",
  "docs/BENCHMARKS.md",
  "docs/TESTING.md",
];

/** The names that a page does not mention. */
function missing(page: string, names: Iterable<string>): string[] {
  const words = codeWords(page);
  return [...names].filter((name) => !words.has(name));
}

it("is there", () => {
  const documents = ["API", "ARCHITECTURE", "BENCHMARKS", "BROWSER", "CLI", "COMPATIBILITY", "ERROR-POLICY"];
  for (const name of [...documents, "GLOSSARY", "RECIPES", "STATUS", "TESTING"])
    expect(pages).toContain(`docs/${name}.md`);
  for (const name of ["README", "CHANGELOG", "CONTRIBUTING", "SECURITY"])
    expect(pages).toContain(`${name}.md`);
});

describe("README", () => {
  it("is a page that one wants to read", () => {
    expect(Buffer.byteLength(readText("README.md"))).toBeLessThanOrEqual(8192);
  });

  it("has the two commands, and no other to try", () => {
    const section = readText("README.md").split("## Try it")[1]?.split("\n## ")[0] ?? "";
    const commands = section.split("\n").flatMap((line) => /^ {4}(\S.*)$/.exec(line)?.[1] ?? []);
    expect(commands).toEqual(["npm ci && npm start", "npm ci && npm test"]);
  });

  it("leads to every page, and names those that are not in the package", () => {
    const text = readText("README.md");
    const linked = new Set(linksOf("README.md").map(({ path }) => path));
    const isNamed = (page: string): boolean => linked.has(page) || text.includes(`\`${page}\``);
    expect(pages.filter((page) => page !== "README.md" && !isNamed(page))).toEqual([]);
  });
});

describe("links", () => {
  it("lead to files and headings that exist", () => {
    const links = pages.flatMap(linksOf);
    expect(links.length).toBeGreaterThan(60);
    expect(links.map(deadLink).filter((dead) => dead !== undefined)).toEqual([]);
  });

  it("lead to what is in the package", () => {
    expect(pages.filter((page) => !isPacked(page))).toEqual(ofTheRepository);
    const packed = pages.filter(isPacked);
    const outside = packed.flatMap(linksOf).filter(({ path }) => !isPacked(path));
    expect(outside).toEqual([]);
  });

  it("and the files of the repository that are named as code exist", () => {
    const named = pages.flatMap((page) =>
      [...readText(page).matchAll(/`((?:src|test|assembly|\.ci)\/[\w./-]+\.\w+)`/g)].map((match) => ({
        page,
        path: match[1] ?? "",
      })),
    );
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter(({ path }) => !existsSync(join(root, path)))).toEqual([]);
  });

  it("that lead nowhere would be noticed", () => {
    expect(deadLink({ page: "README.md", path: "docs/NONE.md", fragment: undefined })).toContain(
      "does not exist",
    );
    expect(deadLink({ page: "README.md", path: "README.md", fragment: "none" })).toContain("no heading");
    expect(deadLink({ page: "README.md", path: "README.md", fragment: "try-it" })).toBeUndefined();
  });
});

describe("docs/API.md", () => {
  it.each([
    ["index", 90],
    ["node", 90],
    ["browser", 90],
    ["v86", 15],
    ["workload", 30],
  ] as const)("mentions every export of the entry %s", (entry, least) => {
    const names = exportsOf(`build/types/${entry}.d.ts`);
    expect(names.size).toBeGreaterThan(least);
    expect(missing("docs/API.md", names)).toEqual([]);
  });

  it.each(["file-disk", "random-access", "emscripten"])("mentions every export of the entry %s", (entry) => {
    const names = exportsOf(`build/types/adapters/${entry}.d.ts`);
    expect(names.size).toBeGreaterThan(1);
    expect(missing("docs/API.md", names)).toEqual([]);
  });

  it("mentions every export of the entry worker", () => {
    const names = exportsOf("build/types/worker.d.ts");
    expect(names.size).toBeGreaterThan(3);
    expect(missing("docs/API.md", names)).toEqual([]);
  });

  it("mentions every command that a monitor serves, and no other of the table", () => {
    const version = { qemu: { major: 7, minor: 2, micro: 0 }, package: "" };
    const served = engineCommands({ version, more: exportHandlers, onQuit: () => undefined }).names();
    expect(served.length).toBeGreaterThan(50);
    expect(missing("docs/API.md", served)).toEqual([]);
    const unserved = Object.keys(schema.commands).filter((name) => !served.includes(name as never));
    expect(unserved.filter((name) => !missing("docs/API.md", [name]).length)).toEqual([]);
  });

  it("mentions every event", () => {
    expect(missing("docs/API.md", Object.keys(schema.events))).toEqual([]);
  });

  it("mentions every option of every driver and object", () => {
    const types = Object.entries(schema.types).filter(([name]) =>
      /^BlockdevOptions|^ThrottleGroup/.test(name),
    );
    expect(types.length).toBeGreaterThan(9);
    const members = types.flatMap(([, type]) =>
      Object.keys(("members" in type ? type.members : undefined) ?? {}),
    );
    expect(members.length).toBeGreaterThan(40);
    const names = members
      .map((name) => name.replace(/^\*/, ""))
      .filter((name) => !/^x-[ib]o?ps|^limits$/.test(name));
    expect(missing("docs/API.md", names)).toEqual([]);
  });
});

describe("docs/CLI.md", () => {
  const commandsOf = (verb: string): string[] =>
    [...help(verb).matchAll(/^ {2}(\w+) (?:\[|<)/gm)].map((match) => match[1] ?? "");
  const top = commandsOf("");
  const below = top.flatMap((verb) => commandsOf(verb).map((name) => `${verb} ${name}`));
  const verbs = [...top, ...below].filter((verb) => !/\bhelp$/.test(verb));

  it("mentions every verb and every option", () => {
    expect(verbs).toEqual(
      expect.arrayContaining(["daemon", "info", "mirror", "backup", "stream", "commit", "demo"]),
    );
    expect(verbs).toContain("backup restore");
    for (const verb of verbs) {
      const options = [...help(verb).matchAll(/(?:^|[ ,])(--?[a-zA-Z][\w-]*)/gm)].map(
        (match) => match[1] ?? "",
      );
      expect(options.length).toBeGreaterThan(1);
      expect({ verb, missing: missing("docs/CLI.md", options) }).toEqual({ verb, missing: [] });
      expect(readText("docs/CLI.md")).toMatch(
        new RegExp(`^(## .*\\b${verb}\\b|    blockwright ${verb} )`, "m"),
      );
    }
  });

  it("mentions no option that there is not", () => {
    const known = new Set(verbs.flatMap((verb) => [...help(verb).matchAll(/--[a-z][\w-]*/g)].map(String)));
    for (const extra of ["--version", "--export", "--nbd-server"]) known.add(extra);
    const named = [...codeWords("docs/CLI.md")].filter((word) => /^--[a-z]/.test(word));
    expect(named.filter((word) => !known.has(word))).toEqual([]);
  });

  it("mentions every variable of the environment that the program reads", () => {
    const sources = repositoryFiles(/^src\/.*\.ts$/).map(readText);
    const read = sources.flatMap((text) =>
      [...text.matchAll(/process\.env\["(\w+)"\]/g)].map((match) => match[1] ?? ""),
    );
    const internal = new Set(["PATH", "INIT_CWD", "npm_lifecycle_event"]);
    expect(read.length).toBeGreaterThan(3);
    expect(
      missing(
        "docs/CLI.md",
        read.filter((name) => !internal.has(name)),
      ),
    ).toEqual([]);
  });
});

describe("the other pages", () => {
  it("SECURITY.md names every limit", () => {
    expect(missing("SECURITY.md", Object.keys(limits))).toEqual([]);
  });

  it("docs/ARCHITECTURE.md names every folder of src/", () => {
    const folders = new Set(repositoryFiles(/^src\/[^/]+\//).map((path) => path.split("/")[1] ?? ""));
    const text = readText("docs/ARCHITECTURE.md");
    expect([...folders].filter((name) => !text.includes(`src/${name}/`))).toEqual([]);
  });
});

it("SECURITY.md names a test in each line of who may do what, and only tests that are there", () => {
  const section = /^## Who may do what\n([\s\S]*?)^## /m.exec(readText("SECURITY.md"))?.[1] ?? "";
  const rows = section
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .slice(1);
  const named = (text: string): string[] => [...text.matchAll(/`(test\/[^`]*)`/g)].map((match) => match[1]!);
  for (const who of ["an image", "a server", "a QMP client", "a page"])
    expect(
      rows.filter((row) => row.startsWith(`| ${who} |`)),
      who,
    ).not.toEqual([]);
  expect(rows.filter((row) => named(row.split("|").at(-2) ?? "").length === 0)).toEqual([]);
  expect(named(readText("SECURITY.md")).filter((file) => !existsSync(join(root, file)))).toEqual([]);
});
