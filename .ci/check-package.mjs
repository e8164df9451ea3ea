// Checks the package as users get it; run it after a build.
//
//   1. The portable entries, bundled for browsers, reach no node: module (proved from esbuild's metafile).
//   2. The size of each entry, minified and gzipped, printed; the documentation has it about right.
//   3. All that docs/BROWSER.md's page loads of Blockwright (page and worker) stays below PAGE_MOST_KIB and ALL_MOST_KIB, and what
//      a page with an engine of its own bundles (V86_NAMES out of the built entry) stays below V86_MOST_KIB.
//   4. The program and the tarball stay below their budgets; npm has no script of ours to ask users about, and finds every man page.
//   5. publint and attw (ESM only) over the very tarball that npm packs.
//   6. Out of that tarball, with no other package installed, the program and the Node entry make and read an image.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { gzipSync } from "node:zlib";
import { build as esbuild } from "esbuild";
import { entries, queues, root, target } from "./build.mjs";

const portable = ["index", "browser", "worker", "guest-worker", "v86", "workload"];

/** What a page needs for a disk over HTTP that is filled into the browser's storage. */
const V86_NAMES = ["createEngine", "createImage", "openNode", "stream", "toV86Disk", "qcow2", "http", "opfs"];
const V86_MOST_KIB = 106;
/** What starts of the program read, KiB: V8 has to look at all of it where no compiled code is kept. */
const PROGRAM_MOST_KIB = { "cli/main.js": 6, "cli/program.js": 508, "cli/further.js": 700 };
/** What npm fetches, KiB. The program is a script with all that it needs inside. */
const TARBALL_MOST_KIB = 1171;
/** Scripts that npm runs, or asks about, where a package is installed. */
const INSTALL_SCRIPTS = ["preinstall", "install", "postinstall", "prepare"];
/** What docs/BROWSER.md's page loads at most: on the page, and with its worker and the kernels in it. */
const PAGE_MOST_KIB = 90;
const ALL_MOST_KIB = 180;
/** How far the documented sizes may be off. */
const SIZE_TOLERANCE = 0.15;

/** @type {Readonly<Record<string, string>>} */
const documentedNames = {
  index: "blockwright",
  "cli/main": "blockwright (launcher)",
  "cli/program": "blockwright (command)",
};

/**
 * What stays outside of a bundle, by where it is to run. In browsers node: stays too, so the proof can say who asks.
 *
 * @param {boolean} forBrowser
 */
function outside(forBrowser) {
  const inNode = ["file-disk", "random-access-storage"];
  // Browsers read zstd by fzstd: loaded on demand, and a part of the bundle.
  return [
    "node:*",
    ...queues,
    "koffi",
    "ws",
    "@bokuweb/zstd-wasm",
    ...(forBrowser ? [] : ["fzstd", ...inNode]),
  ];
}

/** @typedef {{ atOnce: number, onDemand: number, inputs: number }} Size */

/**
 * Bundles an entry as its user would; KiB gzipped of what is loaded at once and on demand, modules, foreign imports.
 *
 * @param {Pick<import("esbuild").BuildOptions, "entryPoints" | "stdin">} input
 * @param {boolean} forBrowser
 */
async function measure(input, forBrowser) {
  const own = Array.isArray(input.entryPoints) ? /** @type {string[]} */ (input.entryPoints) : [];
  // A script that the program requires when it is asked for is measured by itself.
  const others = [entries["cli/fleet"], entries["cli/late"]]
    .filter((file) => !own.includes(file))
    .map((file) => join(root, file));
  const options = /** @satisfies {import("esbuild").BuildOptions} */ ({
    absWorkingDir: root,
    ...input,
    outdir: "build/sizes",
    bundle: true,
    splitting: true,
    write: false,
    minify: true,
    format: "esm",
    platform: forBrowser ? "browser" : "node",
    target,
    external: [...outside(forBrowser), ...others],
    metafile: /** @type {const} */ (true),
    logLevel: "error",
  });
  const { metafile, outputFiles } = await esbuild(options);
  const sizes = new Map(
    outputFiles.map(({ path, contents }) => [relative(root, path), gzipSync(contents).length / 1024]),
  );
  // What is loaded on demand has an entry point, too.
  const [wanted] = Array.isArray(input.entryPoints)
    ? /** @type {string[]} */ (input.entryPoints)
    : ["<stdin>"];
  const entry = Object.entries(metafile.outputs).find(([, output]) => output.entryPoint === wanted)?.[0];
  const atOnce = new Set(entry === undefined ? [] : [entry]);
  for (const path of atOnce) {
    for (const { path: other, kind, external } of metafile.outputs[path]?.imports ?? []) {
      if (kind === "import-statement" && !external) atOnce.add(other);
    }
  }
  const sum = (/** @type {(path: string) => boolean} */ keep) =>
    [...sizes].reduce((total, [path, size]) => total + (keep(path) ? size : 0), 0);
  const foreign = Object.entries(metafile.inputs).flatMap(([file, { imports }]) =>
    // "<runtime>" is esbuild's own helper code, which is in the bundle.
    imports
      .filter(({ external, path }) => external && path !== "<runtime>")
      .map(({ path }) => `${file} imports ${path}`),
  );
  return {
    atOnce: sum((path) => atOnce.has(path)),
    onDemand: sum((path) => !atOnce.has(path)),
    inputs: Object.keys(metafile.inputs).length,
    foreign,
  };
}

/** What docs/BROWSER.md's page imports. */
function measureGuestPage() {
  const contents = 'export { openGuestDisk } from "./build/v86.js";';
  return measure({ stdin: { contents, resolveDir: root } }, true);
}

/** What a page with v86 imports. */
function measureForV86() {
  const names = V86_NAMES.join(", ");
  const contents = `import { ${names} } from "./build/v86.js";\nself.page = { ${names} };`;
  return measure({ stdin: { contents, resolveDir: root } }, true);
}

/**
 * Prints a size, and tells whether the documentation has it about right.
 *
 * @param {string} name
 * @param {Size} size
 */
function isDocumented(name, { atOnce, onDemand, inputs }) {
  const later = onDemand > 0 ? ` (and ${onDemand.toFixed(1)} on demand)` : "";
  console.log(`${name}: ${atOnce.toFixed(1)} KiB gzipped${later}, ${inputs} modules`);
  const text = readFileSync(join(root, "docs", "benchmarks.json"), "utf8");
  const { tables } = /** @type {{ tables: { sizes: { rows: [string, number][] } } }} */ (JSON.parse(text));
  const told = tables.sizes.rows.find(([entry]) => entry === name)?.[1];
  if (told === undefined || Math.abs(told - atOnce) <= told * SIZE_TOLERANCE) return true;
  console.error(
    `docs/benchmarks.json says ${told} KiB for ${name}: put in ${atOnce.toFixed(0)}, then npm run docs`,
  );
  return false;
}

/**
 * Runs a tool of node_modules; true when it is content. What it says is shown only when it is not.
 *
 * @param {string} command
 * @param {string[]} args
 */
function run(command, ...args) {
  const program = join(root, "node_modules", ".bin", command);
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: root, encoding: "utf8" });
  console.log(`${command} ${status === 0 ? "is content" : `complains:\n${stdout}${stderr}`}`);
  return status === 0;
}

/** @typedef {{ filename: string, entryCount: number, size: number, unpackedSize: number }} Packed */

/**
 * Prints a size, and tells whether it is within its budget.
 *
 * @param {string} name
 * @param {number} bytes
 * @param {number} mostKib
 */
function isWithin(name, bytes, mostKib) {
  console.log(`${name}: ${(bytes / 1024).toFixed(0)} KiB of ${mostKib} KiB`);
  if (bytes <= mostKib * 1024) return true;
  console.error(`${name} has outgrown its budget`);
  return false;
}

/** What users have no use for, or miss, in package.json; a line each. */
function complaints() {
  const text = readFileSync(join(root, "package.json"), "utf8");
  const { scripts, man } = /** @type {{ scripts: Record<string, string>, man: string[] }} */ (
    JSON.parse(text)
  );
  const asked = INSTALL_SCRIPTS.filter((name) => name in scripts);
  const pages = readdirSync(join(root, "build", "man")).map((name) => `./build/man/${name}`);
  return [
    ...asked.map((name) => `npm asks users about the script ${name}`),
    ...pages.filter((page) => !man.includes(page)).map((page) => `package.json's man lacks ${page}`),
    ...man.filter((page) => !pages.includes(page)).map((page) => `there is no ${page}`),
  ];
}

/**
 * Packs the package into a folder of its own; the path of the tarball.
 *
 * @param {string} folder
 */
function pack(folder) {
  const args = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const { status, stdout } = spawnSync("npm", args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error("npm pack failed");
  // A list, or an object by names: npm's versions differ.
  const parsed = /** @type {Packed[] | Record<string, Packed>} */ (JSON.parse(stdout));
  const [packed] = Object.values(parsed);
  if (packed === undefined) throw new Error("npm pack packed nothing");
  const { filename, entryCount, size, unpackedSize } = packed;
  console.log(`${filename}: ${entryCount} files, ${(unpackedSize / 1024).toFixed(0)} KiB unpacked`);
  if (!isWithin(filename, size, TARBALL_MOST_KIB)) failures += 1;
  return join(folder, filename);
}

/**
 * Unpacks the tarball as npm would, and uses it with nothing beside it.
 *
 * @param {string} folder
 * @param {string} tarball
 */
function worksAlone(folder, tarball) {
  const home = join(folder, "node_modules", "blockwright");
  mkdirSync(home, { recursive: true });
  const image = join(folder, "image.qcow2");
  const program = join(folder, "program.mjs");
  writeFileSync(
    program,
    `import { openNode } from "blockwright/node";
const file = { driver: "file", filename: ${JSON.stringify(image)} };
const node = await openNode({ driver: "qcow2", file });
if (node.length !== 2 ** 20) throw new Error("the image is not as long as it was made");
await node.close();
`,
  );
  /** @type {[string, ...string[]][]} */
  const steps = [
    ["tar", "xzf", tarball, "-C", home, "--strip-components=1"],
    [process.execPath, join(home, "build", "cli", "main.js"), "create", "-q", "-f", "qcow2", image, "1M"],
    [process.execPath, program],
  ];
  for (const [command, ...args] of steps) {
    const { status, stderr } = spawnSync(command, args, { cwd: folder, encoding: "utf8" });
    if (status === 0) continue;
    console.error(`${[command, ...args].join(" ")}\n${stderr}`);
    return false;
  }
  console.log("the package works with no other installed");
  return true;
}

let failures = 0;
for (const [name, file] of Object.entries(entries)) {
  const measured = await measure({ entryPoints: [file] }, portable.includes(name));
  // Programs are scripts of one file: V8 reads all of it.
  if (name.startsWith("cli/")) measured.atOnce += measured.onDemand;
  const { foreign } = measured;
  if (!isDocumented(documentedNames[name] ?? `blockwright/${name}`, measured)) failures += 1;
  if (!portable.includes(name) || foreign.length === 0) continue;
  failures += 1;
  console.error(`${name} is not fit for browsers:\n  ${foreign.join("\n  ")}`);
}

const guestPage = await measureGuestPage();
const guestWorker = await measure({ entryPoints: [entries["guest-worker"]] }, true);
const all = guestPage.atOnce + guestWorker.atOnce;
console.log(`a page with openGuestDisk, its worker and its kernels: ${all.toFixed(1)} KiB gzipped`);
if (!isDocumented("a page with openGuestDisk", guestPage)) failures += 1;
if (guestPage.atOnce > PAGE_MOST_KIB || all > ALL_MOST_KIB) {
  failures += 1;
  console.error(
    `a page with openGuestDisk may load ${PAGE_MOST_KIB} KiB, and ${ALL_MOST_KIB} with its worker`,
  );
}

const forV86 = await measureForV86();
if (!isDocumented("a page with v86, qcow2, http, opfs and stream", forV86)) failures += 1;
if (forV86.atOnce > V86_MOST_KIB) {
  failures += 1;
  console.error(`a page with v86 may load ${V86_MOST_KIB} KiB at most`);
}

for (const [name, mostKib] of Object.entries(PROGRAM_MOST_KIB))
  if (!isWithin(name, statSync(join(root, "build", name)).size, mostKib)) failures += 1;
for (const complaint of complaints()) {
  failures += 1;
  console.error(complaint);
}

const folder = mkdtempSync(join(tmpdir(), "blockwright-pack-"));
try {
  const tarball = pack(folder);
  if (!run("publint", "--strict", tarball)) failures += 1;
  if (!run("attw", "--profile", "esm-only", "--", tarball)) failures += 1;
  if (!worksAlone(folder, tarball)) failures += 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failures === 0 ? 0 : 1;
