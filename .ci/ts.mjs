// Runs a TypeScript program of this repository: `node .ci/ts.mjs test/bench/kernels.ts ARGUMENTS`. Node 20 strips no types,
// so esbuild writes one file below build/test/ (mirroring the source's path) and this process goes on there.
// Run `npm run build` first: the kernels' binary is taken from build/.
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const source = process.argv[2];
if (source === undefined) {
  console.error("usage: node .ci/ts.mjs PROGRAM.ts [ARGUMENTS]");
  process.exit(2);
}
const path = relative(root, resolve(source)).replace(/^test\//, "");
const outfile = join(root, "build", "test", path.replace(/\.ts$/, ".mjs"));
await build({
  absWorkingDir: root,
  entryPoints: [resolve(source)],
  outfile,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20.19",
  packages: "external",
  sourcemap: "inline",
  logLevel: "warning",
});
process.setSourceMapsEnabled(true);
process.argv.splice(1, 2, outfile);
await import(pathToFileURL(outfile).href);
