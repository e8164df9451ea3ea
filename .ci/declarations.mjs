// Writes the package's declarations. tsc writes one for every source (build/.types, which mirrors src), the QAPI table's are written
// anew with words, and rollup leaves of all of them what the package's entries reach: an entry each, and what several of them share.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { rollup } from "rollup";
import { dts } from "rollup-plugin-dts";
import { writeHover } from "./hover.mjs";
import { leaveShownWords } from "./shown-words.mjs";

/** What "blockwright/wasm" is, is its importer's to say: a bundler makes a URL of it, or bytes, or a module. */
const KERNELS = "declare const kernels: unknown;\nexport default kernels;\n";

/** The entry that another one, the script's, has as a whole: that is a name for its file, of which rollup would make a list of values. */
const WHOLE = "browser.ts";
const isWhole = (/** @type {string} */ name, /** @type {string} */ importer) =>
  basename(name) === WHOLE && basename(importer) === "script.d.ts";

/**
 * The declarations of package.json's entries, below `build/types`.
 *
 * @param {string} root
 */
export function entriesOf(root) {
  const { exports } = /** @type {{ exports: Record<string, string | { types: string }> }} */ (
    JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  );
  return Object.values(exports).flatMap((entry) =>
    typeof entry === "string" ? [] : [relative("build/types", entry.types)],
  );
}

/** Names the library of TypeScript that a file needs: a user's `lib` need not have it. */
const disposables = {
  name: "disposables",
  renderChunk: (/** @type {string} */ code) =>
    /Disposable|\bSymbol\.(?:asyncD|d)ispose/.test(code)
      ? `/// <reference lib="esnext.disposable" />\n${code}`
      : null,
};

/** @param {string} root */
async function rollUp(root) {
  const [from, to] = [join(root, "build", ".types"), join(root, "build", "types")];
  const input = Object.fromEntries(
    entriesOf(root).map((name) => [name.replace(/\.d\.ts$/, ""), join(from, name)]),
  );
  const plugin = dts();
  // It would have entries ask each other for what they share: Node's a page's, for which the DOM's types would be needed.
  delete plugin.generateBundle;
  const bundle = await rollup({
    input,
    plugins: [plugin, disposables],
    external: (name, importer = "") => !/^[./]/.test(name) || isWhole(name, importer),
    onwarn: ({ code, message }) => {
      // A worker's entry exports nothing.
      if (code !== "EMPTY_BUNDLE") throw new Error(message);
    },
  });
  rmSync(to, { recursive: true, force: true });
  await bundle.write({
    dir: to,
    entryFileNames: "[name].d.ts",
    chunkFileNames: "shared/[name].ts",
    paths: (id) => (id === join(from, WHOLE) ? `./${WHOLE.replace(".ts", ".js")}` : id),
  });
  await bundle.close();
}

/**
 * Type errors make it fail.
 *
 * @param {string} root
 */
export async function writeDeclarations(root) {
  const folder = join(root, "build", ".types");
  rmSync(folder, { recursive: true, force: true });
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const run = spawnSync(process.execPath, [tsc, "-p", ".ci/tsconfig.types.json"], {
    cwd: root,
    stdio: "inherit",
  });
  if (run.status !== 0) throw new Error("the declarations have type errors");
  await writeHover(root);
  writeFileSync(join(folder, "kernels-wasm.d.ts"), KERNELS);
  leaveShownWords(
    folder,
    entriesOf(root).map((name) => join(folder, name)),
  );
  await rollUp(root);
}
