/**
 * docs/DURABILITY.md promises nothing that no test shows: each row of a table names tests, and they exist.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { readText } from "./source.ts";

/** Whether there is such a test, `crash/sigkill` for one; some run in Node alone. */
function isTest(name: string): boolean {
  return [".test.ts", ".node.test.ts", ".mjs"].some((end) => existsSync(join(root, `test/${name}${end}`)));
}

describe("docs/DURABILITY.md", () => {
  const lines = readText("docs/DURABILITY.md").split("\n");
  const rows = lines.filter((line, at) => line.startsWith("| ") && !lines[at + 1]?.startsWith("|---"));

  it("backs each promise with a test that exists", () => {
    expect(rows.length).toBeGreaterThan(20);
    for (const row of rows) {
      const tests = [...(row.split("|").at(-2) ?? "").matchAll(/`([\w-]+(?:\/[\w.-]+)+)`/g)].map(
        ([, name]) => name!,
      );
      expect([row, tests.length > 0, tests.filter((name) => !isTest(name))]).toEqual([row, true, []]);
    }
  });
});
