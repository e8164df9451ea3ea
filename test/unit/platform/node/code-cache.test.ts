// Compiled code that is kept: used where it is this user's alone, and never in the way of the run.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, it } from "vitest";
import { buildProgram } from "../../../support/program.ts";

const program = await buildProgram("test/support/cached-script.ts");
const home = mkdtempSync(join(tmpdir(), "blockwright-code-"));
const folder = join(home, "cache");
const script = join(home, "script.js");

beforeEach(() => {
  rmSync(folder, { recursive: true, force: true });
  writeFileSync(
    script,
    'process.stdout.write(`ran ${__filename} ${require("node:path").sep} ${typeof module}`)',
  );
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

function run({ hash = "aa", name = "use" } = {}): { text: string; took: boolean } {
  const { stdout, stderr } = spawnSync(process.execPath, [program, script, hash, folder, name], {
    encoding: "utf8",
  });
  expect(stderr.replace("took kept code\n", "")).toBe("");
  expect(stdout).toBe(`ran ${script} / object`);
  return { text: stdout, took: stderr.includes("took kept code") };
}

/** The one file of compiled code that is kept. */
function kept(): string {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".code"),
  );
  expect(files).toHaveLength(1);
  return join(folder, files[0]!);
}

it("keeps what was compiled, for this user alone, and takes it the next time", () => {
  expect(run().took).toBe(false);
  expect(statSync(kept()).mode & 0o777).toBe(0o600);
  expect(run().took).toBe(true);
});

it("takes none of another script, and of another use", () => {
  run();
  expect(run({ hash: "bb" }).took).toBe(false);
  expect(run({ name: "other" }).took).toBe(false);
});

it.each([
  ["the file", (): void => chmodSync(kept(), 0o622)],
  ["its folder", (): void => chmodSync(join(kept(), ".."), 0o777)],
])("takes none where others may write to %s", (_what, open) => {
  run();
  open();
  expect(run().took).toBe(false);
});

it("replaces what V8 refuses", () => {
  run();
  writeFileSync(kept(), "rubbish");
  expect(run().took).toBe(false);
  expect(run().took).toBe(true);
});

it.each([
  ["a file", (): void => writeFileSync(folder, "a file, not a folder")],
  ["no end of links, which can't even be looked at", (): void => symlinkSync(folder, folder)],
])("runs where nothing can be kept: the folder is %s", (_what, make) => {
  make();
  expect(run().took).toBe(false);
});

it("keeps nothing of a run that failed", () => {
  writeFileSync(script, `process.exitCode = 1; process.stdout.write("ran ${script} / object")`);
  run();
  expect(() => statSync(folder)).toThrow(/ENOENT/);
});

it("keeps the code of the latest versions only", () => {
  mkdirSync(folder);
  for (const hash of ["a", "b", "c", "d", "e", "f"]) run({ hash });
  const hashes = readdirSync(folder).map((name) => name.split("-")[0]);
  expect(hashes).toHaveLength(4);
  expect(hashes).toContain("f");
});
