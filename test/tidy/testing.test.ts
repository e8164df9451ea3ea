/**
 * docs/TESTING.md and the runner's tables tell the same: budgets, suites, seeds, programs; and so do docs/COMPATIBILITY.md and
 * the list of QEMU's own tests.
 */
import { describe, expect, it } from "vitest";
import { budgets, programs, suites } from "../../.ci/test/stages.ts";
import { HANG_MS } from "../support/until.ts";
import { markedTable } from "./docs.ts";
import { readText, repositoryFiles } from "./source.ts";

const page = readText("docs/TESTING.md");
const tests = repositoryFiles(/^test\/.*\.test\.ts$/);

describe("docs/TESTING.md", () => {
  it("has the budget of CI", () => {
    const rows = budgets.full.map(
      ({ name, suites: own, minutes }) => `| ${name} | ${own.join(", ")} | ${minutes} |`,
    );
    const head = ["| part | suites | minutes |", "| --- | --- | --- |"];
    expect(markedTable("docs/TESTING.md", "budget")).toBe([...head, ...rows].join("\n"));
    expect(budgets.full.reduce((sum, { minutes }) => sum + minutes, 0)).toBe(48);
    expect(budgets.command.reduce((sum, { minutes }) => sum + minutes, 0)).toBe(10);
  });

  it("has every suite", () => {
    const folders = new Set(tests.map((path) => path.split("/")[1] ?? ""));
    expect(suites.map(({ name }) => name).toSorted()).toEqual([...folders].toSorted());
    for (const { name } of suites) expect(page).toMatch(new RegExp(`^\\| ${name} \\|`, "m"));
  });

  it("says of every test file what it is for, and of none that is not there", () => {
    const named = [...page.matchAll(/`((?:\w[\w.-]*\/)+(?:[\w.-]+)?)`/g)].map((match) => match[1] ?? "");
    const places = named.filter((name) => suites.some((suite) => name.startsWith(`${suite.name}/`)));
    const isAt = (path: string, place: string): boolean =>
      place.endsWith("/") ? path.startsWith(`test/${place}`) : path === `test/${place}.test.ts`;
    expect(places.length).toBeGreaterThan(70);
    expect({
      "named, but not there": places.filter((place) => !tests.some((path) => isAt(path, place))),
    }).toEqual({
      "named, but not there": [],
    });
    expect({
      "add to docs/TESTING.md": tests.filter((path) => !places.some((place) => isAt(path, place))),
    }).toEqual({ "add to docs/TESTING.md": [] });
  });

  it("has every variable that the tests read", () => {
    const sources = repositoryFiles(/^(test|\.ci)\/.*\.(ts|mjs)$/).map(readText);
    const read = sources.flatMap((text) =>
      [...text.matchAll(/process\.env\["([A-Z0-9]+(?:_[A-Z0-9]+)*)"\]/g)].map((match) => match[1] ?? ""),
    );
    const others = new Set(["PATH", "BLOCKWRIGHT_TEST_REPORT"]);
    const wanted = [...new Set(read)].filter((name) => !others.has(name));
    expect(wanted.length).toBeGreaterThan(15);
    expect(wanted.filter((name) => !page.includes(name))).toEqual([]);
  });
});

it("no test has a limit of its own that is shorter than everybody's, which a busy machine would reach", () => {
  const shorter = tests.flatMap((path) =>
    [
      ...readText(path).matchAll(
        /^\s*\}, (?:\{ timeout: )?([\d_]+)(?: \})?\);$|\{ timeout: ([\d_]+) \}, async/gm,
      ),
    ]
      .map((match) => Number((match[1] ?? match[2]!).replaceAll("_", "")))
      .filter((ms) => ms >= 1000 && ms < 3 * HANG_MS)
      .map((ms) => `${path}: ${ms} ms`),
  );
  expect(shorter).toEqual([]);
});

it("unit tests that Chromium runs, too, use nothing of Node's", () => {
  const folders = [...readText("vitest.config.ts").matchAll(/"(test\/unit\/[\w/]+\/)\*\*/g)].map(
    ([, folder]) => folder!,
  );
  expect(folders.length).toBeGreaterThan(8);
  const shared = tests.filter(
    (path) => folders.some((folder) => path.startsWith(folder)) && !path.endsWith(".node.test.ts"),
  );
  expect(shared.length).toBeGreaterThan(100);
  const ofNode = /\bprocess\.(?:env|platform|version)|\bBuffer\.|from "node:/;
  expect({ "name it *.node.test.ts": shared.filter((path) => ofNode.test(readText(path))) }).toEqual({
    "name it *.node.test.ts": [],
  });
});

/** What starts a program for a test that does not name it. */
const helpers: Readonly<Record<string, RegExp>> = {
  "redis-server": /\.redis\(\)/,
  "/usr/lib/postgresql/15/bin/postgres": /\.postgres\(\)/,
};

describe("the programs that few files want", () => {
  it.each(programs.filter(({ wantedBy }) => wantedBy !== undefined))(
    "$name: by files that exist",
    (program) => {
      expect(tests.filter((path) => program.wantedBy!.test(path)).length).toBeGreaterThan(0);
    },
  );

  it("are asked for by those files alone", () => {
    const started = (name: string): RegExp =>
      helpers[name] ??
      new RegExp(
        `(must|tool|spawnSync|execFileSync|both|has)\\("${name}"|= "${name}"|(?:theirs|real|answers).{0,4}\\["${name}"`,
      );
    const other = programs.flatMap(({ name, wantedBy }) =>
      wantedBy === undefined
        ? []
        : tests.filter((path) => !wantedBy.test(path) && started(name).test(readText(path))),
    );
    expect(other).toEqual([]);
  });
});

it.each([
  ["pairs.tsv", "iotests", "pairs of test and format run here"],
  ["machine-pairs.tsv", "iotests-machine", "are in"],
  ["nbd-pairs.tsv", "iotests-nbd", "pairs, formats with `ours`"],
])(
  "docs/COMPATIBILITY.md has QEMU's own tests that do not pass, with the reasons of test/iotests/%s",
  (file, table, words) => {
    const pairs = readText(`test/iotests/${file}`)
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
    const reasons = new Map<string, string[]>();
    for (const [format, test, reason] of pairs)
      if (reason !== undefined) reasons.set(reason, [...(reasons.get(reason) ?? []), `${format} ${test}`]);
    const rows = [...reasons].map(
      ([reason, names]) => `| ${names.length} | ${names.join(", ")} | ${reason} |`,
    );
    const [head, line, ...told] = (markedTable("docs/COMPATIBILITY.md", table) ?? "").split("\n");
    expect([head, line]).toEqual(["| pairs | which | why |", "| --- | --- | --- |"]);
    expect(told.toSorted()).toEqual(rows.toSorted());
    expect(readText("docs/COMPATIBILITY.md")).toContain(`${pairs.length} ${words}`);
  },
);
