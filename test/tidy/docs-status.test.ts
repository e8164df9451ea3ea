/**
 * docs/STATUS.md is true as far as a test can tell: it has every driver and every kind of job, and each claim names a test
 * that exists.
 */
import { portableDrivers } from "../../src/drivers/index.ts";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { readText, repositoryFiles } from "./source.ts";

/** The file of a test that the page names, `interop/cli` for one; undefined where there is none. */
function testNamed(name: string): string | undefined {
  return [`test/${name}.test.ts`, `test/${name}.mjs`].find((path) => existsSync(join(root, path)));
}

/** The tests that a text names. */
function namesIn(text: string): string[] {
  return [...text.matchAll(/`([\w.-]+(?:\/[\w.-]+)+)`/g)].map((match) => match[1] ?? "");
}

describe("docs/STATUS.md", () => {
  const page = readText("docs/STATUS.md");
  const rows = page.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| | "));

  it("has every driver and every kind of job", () => {
    const first = rows.map((row) => row.split("|")[1] ?? "").join(" ");
    const drivers = repositoryFiles(/^src\/drivers\/.*\.ts$/)
      .filter((path) => /: DriverType = /.test(readText(path)))
      .flatMap((path) => /name: "([^"]+)"/.exec(readText(path).split(": DriverType = ")[1] ?? "")?.[1] ?? []);
    expect(drivers.length).toBeGreaterThan(8);
    const portable = portableDrivers.map(({ name }) => name);
    for (const name of [...drivers, ...portable, "mirror", "backup", "stream", "commit", "create"])
      expect(first).toMatch(new RegExp(`(^|[^\\w-])${name}([^\\w-]|$)`));
  });

  it("names tests that exist", () => {
    // The head of the page names one with its folder and its ending.
    const names = namesIn(page).filter((name) => !name.startsWith("test/"));
    expect(names.length).toBeGreaterThan(80);
    expect(names.filter((name) => testNamed(name) === undefined)).toEqual([]);
  });

  it("backs each claim with a test", () => {
    const cells = rows.flatMap((row) => row.split("|").slice(2, -1)).map((cell) => cell.trim());
    const claims = cells.filter((cell) =>
      /\byes\b|\ball five\b|^(zlib|LUKS|persistent|in memory|always)/.test(cell),
    );
    expect(claims.length).toBeGreaterThan(60);
    expect(claims.filter((cell) => namesIn(cell).length === 0)).toEqual([]);
  });

  it("counts the recordings", () => {
    const recordings = repositoryFiles(/^test\/conformance\/expected\/.*\.json$/);
    const count = recordings.reduce(
      (sum, path) => sum + Object.keys(JSON.parse(readText(path)) as object).length,
      0,
    );
    expect(page).toContain(`${count} recorded scenarios`);
  });
});
