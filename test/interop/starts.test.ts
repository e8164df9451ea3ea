// What a start costs, counted: the modules of Node's that verbs on one image load beside those of every start, and the compiled code
// that they read. Times are npm's `bench:images`.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { root } from "../support/root.ts";

const main = join(root, "build", "cli", "main.js");
const folder = mkdtempSync(join(tmpdir(), "blockwright-starts-"));
const image = join(folder, "image.qcow2");
/** Runs the program in a process that says at its end what it has loaded. */
const noting = join(folder, "noting.cjs");

beforeAll(() => {
  execFileSync(process.execPath, [main, "create", "-q", "-f", "qcow2", image, "64M"]);
  writeFileSync(
    noting,
    `const before = new Set(process.moduleLoadList);
    process.on("exit", () => {
      const loaded = process.moduleLoadList.filter((name) => !before.has(name));
      require("node:fs").writeSync(2, loaded.flatMap((name) => /^NativeModule (.*)$/.exec(name)?.[1] ?? []).join(" "));
    });
    process.argv.splice(1, 1);
    require(process.argv[1]);`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The modules that a run loads, and what it prints. */
function run(...words: string[]): { stdout: string; loaded: string[] } {
  const [out, err] = [join(folder, "out"), join(folder, "err")];
  const cache = join(folder, "cache");
  const command = `"$0" "$@" >${out} 2>${err}; cat ${out}; echo; cat ${err}`;
  const text = execFileSync("sh", ["-c", command, process.execPath, noting, main, ...words], {
    encoding: "utf8",
    env: { ...process.env, XDG_CACHE_HOME: cache, NO_COLOR: "1" },
  });
  const end = text.lastIndexOf("\n");
  return { stdout: text.slice(0, end), loaded: text.slice(end + 1).split(" ") };
}

it("--version loads none but the launcher's own", () => {
  const { stdout, loaded } = run("--version");
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(loaded).toEqual(["vm"]);
});

it.each([["info"], ["check"], ["map"], ["measure", "-O", "raw"]])(
  "%s loads none for streams, networks, clocks and other modules",
  (verb, ...options) => {
    const { stdout, loaded } = run(verb, ...options, image);
    expect(stdout.length).toBeGreaterThan(10);
    const heavy = /stream|net|tty|perf|crypto|zlib|worker|http|child_process|esm|source_map|^module$|^os$/;
    expect(loaded.filter((name) => heavy.test(name))).toEqual([]);
  },
);

/** The files of compiled code that verbs have left, and their lengths. */
function compiled(): Map<string, number> {
  const folders = readdirSync(join(folder, "cache", "blockwright")).map((version) =>
    join(folder, "cache", "blockwright", version),
  );
  return new Map(
    folders.flatMap((path) =>
      readdirSync(path).map((name) => [name, statSync(join(path, name)).size] as const),
    ),
  );
}

it("verbs on one image evaluate nothing of the program's second part", () => {
  for (const verb of ["info", "check", "map"]) run(verb, image);
  run("daemon", "--help");
  const names = [...compiled().keys()];
  expect(names).toContain("daemon-further.code");
  expect(names.filter((name) => /^(?:info|check|map|measure)-/.test(name))).toEqual([]);
});

it("compiled code of info is less than what all verbs take", () => {
  run("info", image);
  const parts = ["program.js", "further.js"].map((name) => statSync(join(root, "build", "cli", name)).size);
  expect(compiled().get("info.code")).toBeLessThan((parts[0]! + parts[1]!) * 0.7);
});
