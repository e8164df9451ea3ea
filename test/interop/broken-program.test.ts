// What a user sees of a program that is broken itself: faults are planted by a script that Node loads before it.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { root } from "../support/root.ts";

const dir = mkdtempSync(join(tmpdir(), "broken-program-"));
afterAll(() => rmSync(dir, { recursive: true }));

interface Ending {
  status: number | null;
  stderr: string;
}

/** Runs the program after `fault`; its stdin stays open. */
function broken(fault: string, ...words: string[]): Promise<Ending> {
  const script = join(dir, "fault.cjs");
  writeFileSync(script, fault);
  const program = spawn(process.execPath, ["--require", script, join(root, "build/cli/main.js"), ...words]);
  let stderr = "";
  program.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return new Promise((resolve) => program.on("close", (status) => resolve({ status, stderr })));
}

function image(name: string): string {
  const file = join(dir, name);
  writeFileSync(file, new Uint8Array(1 << 20));
  return file;
}

it.each([
  ["an error", 'throw new TypeError("planted")', "TypeError: planted"],
  ["a rejection", 'void Promise.reject(new RangeError("planted"))', "RangeError: planted"],
  ["what is no error", 'throw "planted"', "uncaught: planted"],
])("%s that nobody catches: its name, words and places, and status 134", async (_what, fault, words) => {
  // The program waits for its stdin by then.
  const ended = await broken(`setTimeout(() => { ${fault}; }, 1500)`, "io", image("a"));
  expect(ended.status).toBe(134);
  expect(ended.stderr).toContain(`blockwright: ${words}`);
  expect(ended.stderr.length).toBeLessThan(2000);
});
