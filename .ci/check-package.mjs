// Checks the package as users get it; run it after a build.
//
//   1. The portable entries, bundled for browsers, reach no node: module (proved from esbuild's metafile).
//   2. The size of each entry, minified and gzipped, printed.
//   3. What a page with v86 bundles (V86_NAMES out of the built entry) stays below V86_MOST_KIB.
//   4. publint and attw (ESM only) over the very tarball that npm packs.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build as esbuild } from "esbuild";
import { entries, root, target } from "./build.mjs";

const portable = ["index", "browser", "worker", "v86"];

/** What a page needs for a disk over HTTP that is filled into the browser's storage. */
const V86_NAMES = ["createEngine", "createImage", "openNode", "stream", "toV86Disk", "qcow2", "http", "opfs"];
const V86_MOST_KIB = 80;

/** Bundles what a page with v86 imports, as its author would; the gzipped size in KiB. */
async function bundleForV86() {
  const names = V86_NAMES.join(", ");
  const { outputFiles } = await esbuild({
    absWorkingDir: root,
    stdin: {
      contents: `import { ${names} } from "./build/v86.js";\nself.page = { ${names} };`,
      resolveDir: root,
    },
    bundle: true,
    write: false,
    minify: true,
    format: "esm",
    platform: "browser",
    target,
    logLevel: "error",
  });
  return gzipSync(outputFiles[0].contents).length / 1024;
}

/** Bundles one entry alone; gives its gzipped size and the modules that it leaves to the runtime. */
async function bundleAlone(name) {
  const forBrowser = portable.includes(name);
  const { metafile, outputFiles } = await esbuild({
    absWorkingDir: root,
    entryPoints: [entries[name]],
    bundle: true,
    write: false,
    minify: true,
    format: "esm",
    platform: forBrowser ? "browser" : "node",
    target,
    // In the browser's bundle node: stays an import too: so the proof can say who imports it.
    external: ["node:*", "koffi", "fzstd", "@bokuweb/zstd-wasm", ...(forBrowser ? [] : ["commander"])],
    metafile: true,
    logLevel: "error",
  });
  const foreign = Object.entries(metafile.inputs).flatMap(([file, { imports }]) =>
    // "<runtime>" is esbuild's own helper code, which is in the bundle.
    imports
      .filter(({ external, path }) => external && path !== "<runtime>")
      .map(({ path }) => `${file} imports ${path}`),
  );
  return {
    foreign,
    inputs: Object.keys(metafile.inputs).length,
    bytes: gzipSync(outputFiles[0].contents).length,
  };
}

/** Runs a tool of node_modules; true when it is content. What it says is shown only when it is not. */
function run(command, ...args) {
  const program = join(root, "node_modules", ".bin", command);
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: root, encoding: "utf8" });
  console.log(`${command} ${status === 0 ? "is content" : `complains:\n${stdout}${stderr}`}`);
  return status === 0;
}

/** Packs the package into a folder of its own; the path of the tarball. */
function pack(folder) {
  const args = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const { status, stdout } = spawnSync("npm", args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error("npm pack failed");
  const parsed = JSON.parse(stdout);
  const [packed] = Array.isArray(parsed) ? parsed : Object.values(parsed);
  console.log(
    `${packed.filename}: ${packed.entryCount} files, ${(packed.unpackedSize / 1024).toFixed(0)} KiB unpacked`,
  );
  return join(folder, packed.filename);
}

let failures = 0;
for (const name of Object.keys(entries)) {
  const { foreign, inputs, bytes } = await bundleAlone(name);
  console.log(`${name}: ${(bytes / 1024).toFixed(1)} KiB gzipped, ${inputs} modules`);
  if (!portable.includes(name) || foreign.length === 0) continue;
  failures += 1;
  console.error(`${name} is not fit for browsers:\n  ${foreign.join("\n  ")}`);
}

const v86KiB = await bundleForV86();
console.log(`v86 with ${V86_NAMES.join(", ")}: ${v86KiB.toFixed(1)} KiB gzipped, at most ${V86_MOST_KIB}`);
if (v86KiB > V86_MOST_KIB) failures += 1;

const folder = mkdtempSync(join(tmpdir(), "blockwright-pack-"));
try {
  const tarball = pack(folder);
  if (!run("publint", "--strict", tarball)) failures += 1;
  if (!run("attw", "--profile", "esm-only", "--exclude-entrypoints", "./wasm", "--", tarball)) failures += 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failures === 0 ? 0 : 1;
