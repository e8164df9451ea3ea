// The package as npm packs it, installed into a project of its own: the program and the library in every Node that it promises,
// and in Bun and Deno, each out of npm's own package of it. What can't be fetched is skipped by its name.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HANG_MS } from "../support/until.ts";
import { root } from "../support/root.ts";

const platform = `${process.platform}-${process.arch}`;
const folder = mkdtempSync(join(tmpdir(), "blockwright-packed-"));
const project = join(folder, "project");

interface Runtime {
  readonly name: string;
  /** npm's package, whose own scripts are not run. */
  readonly from: string;
  /** The program within node_modules, and the words before a script's name. */
  readonly command: readonly [string, ...string[]];
}

const nodes = ["20", "22", "24", "26"].map((version): Runtime => {
  const name = `node-${platform}`;
  return { name: `Node ${version}`, from: `${name}@${version}`, command: [`${name}/bin/node`] };
});

const runtimes: readonly Runtime[] = [
  ...nodes,
  { name: "Bun", from: `@oven/bun-${platform}`, command: [`@oven/bun-${platform}/bin/bun`] },
  {
    name: "Deno",
    from: `@deno/${platform}-glibc`,
    command: [`@deno/${platform}-glibc/deno`, "run", "--allow-all", "--no-prompt"],
  },
];

/** Installs packages into a folder of their own without running their scripts; false: they are not to be had. */
function install(where: string, ...packages: string[]): boolean {
  execFileSync("mkdir", ["-p", where]);
  writeFileSync(join(where, "package.json"), '{ "private": true, "type": "module" }');
  const words = ["install", "--ignore-scripts", "--no-audit", "--no-fund", ...packages];
  return spawnSync("npm", words, { cwd: where, timeout: 2 * HANG_MS }).status === 0;
}

/** What a user writes first: an image made, written, mirrored, and read again. */
const PROGRAM = `
import { createImage, mirror, openNode, whenReady } from "blockwright/node";
const spec = (filename) => ({ driver: "qcow2", file: { driver: "file", filename } });
await createImage({ ...spec("one.qcow2"), size: 8 * 2 ** 20, "compression-type": "zstd" });
await createImage({ ...spec("two.qcow2"), size: 8 * 2 ** 20 });
const one = await openNode(spec("one.qcow2"));
await one.write(2 ** 20, new Uint8Array(65536).fill(0x5a));
const two = await openNode(spec("two.qcow2"), { engine: one.engine });
const job = await mirror(one, two);
await whenReady(job);
await job.complete();
await job.done;
const bytes = await one.read(2 ** 20 - 1, 65538);
if (bytes[0] !== 0 || bytes[1] !== 0x5a || bytes[65536] !== 0x5a || bytes[65537] !== 0) throw new Error("other bytes");
await Promise.all([one.close(), two.close()]);
console.log("the copy is whole");
`;

let isInstalled = false;

beforeAll(() => {
  const args = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const parsed = JSON.parse(execFileSync("npm", args, { cwd: root, encoding: "utf8" })) as Record<
    string,
    { filename: string }
  >;
  isInstalled = install(project, join(folder, Object.values(parsed)[0]!.filename));
  if (isInstalled) writeFileSync(join(project, "first.js"), PROGRAM);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each(["index", "node", "browser", "v86", "workload"])(
  "the classes of %s bear their names",
  async (entry) => {
    const url = pathToFileURL(join(root, "build", `${entry}.js`)).href;
    const classes = Object.entries((await import(url)) as Record<string, unknown>).filter(([, value]) =>
      /^class\b/.test(String(value)),
    );
    expect(classes.length).toBeGreaterThan(1);
    expect(classes.map(([, value]) => (value as { name: string }).name)).toEqual(
      classes.map(([name]) => name),
    );
  },
);

describe.each(runtimes)("$name", ({ name, from, command }) => {
  const home = join(folder, name.replace(" ", "-"));

  /** Runs a script with the words behind it, in the project; what it wrote, errors first. */
  function run(script: string, ...words: string[]): string {
    const [own, ...before] = command;
    const program = join(home, "node_modules", own);
    const { status, stdout, stderr } = spawnSync(program, [...before, script, ...words], {
      cwd: project,
      encoding: "utf8",
      env: { ...process.env, XDG_CACHE_HOME: join(home, "cache"), NO_COLOR: "1" },
    });
    expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: "" });
    return stdout;
  }

  it("runs the program and the library", (context) => {
    if (!isInstalled) context.skip("the package's own dependencies are not to be had");
    if (!install(home, from)) context.skip(`npm's package ${from} is not to be had`);
    for (const file of ["one.qcow2", "two.qcow2"]) rmSync(join(project, file), { force: true });
    const program = join("node_modules", "blockwright", "build", "cli", "main.js");
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    expect(run(program, "--version")).toBe(`${version}\n`);
    expect(run("first.js")).toBe("the copy is whole\n");
    for (const type of ["zlib", "zstd"]) {
      run(
        program,
        "convert",
        "-c",
        "-O",
        "qcow2",
        "-o",
        `compression_type=${type}`,
        "one.qcow2",
        `${type}.qcow2`,
      );
      expect(run(program, "compare", "two.qcow2", `${type}.qcow2`)).toBe("Images are identical.\n");
      expect(run(program, "check", `${type}.qcow2`)).toContain("No errors were found");
    }
    // With compiled code that the run before has kept.
    const first = run(program, "info", "--output=json", "one.qcow2");
    expect(run(program, "info", "--output=json", "one.qcow2")).toBe(first);
    expect(existsSync(join(home, "cache", "blockwright"))).toBe(name.startsWith("Node"));
  });
});
