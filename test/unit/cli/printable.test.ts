// Control characters of hostile names never reach the terminal, and JSON means the same afterwards.
import { expect, test } from "vitest";
import { printable } from "../../../src/cli/printable.ts";

test("control characters and turns of direction are escaped; lines, tabs and other writing stay", () => {
  expect(printable("a\u001B]0;title\u0007b\u009B2Jc\rd\u007F\u0000")).toBe(
    String.raw`a\u001b]0;title\u0007b\u009b2Jc\u000dd\u007f\u0000`,
  );
  expect(printable("exe\u202Efdp\u2066")).toBe(String.raw`exe\u202efdp\u2066`);
  expect(printable("line\n\tnaïve 磁盘 🐧\n")).toBe("line\n\tnaïve 磁盘 🐧\n");
});

test("JSON means the same", () => {
  const value = { filename: "\u001B[31m\u009B\u007F\u202E" };
  const text = printable(JSON.stringify(value));
  expect(text).not.toMatch(/[\p{Cc}\u202E]/u);
  expect(JSON.parse(text)).toEqual(value);
});
