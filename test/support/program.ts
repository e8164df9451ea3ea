// Builds a TypeScript program of test/ for child processes, as `.ci/ts.mjs` does, without running it.
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Bundles `source` (a path below the repository's root) into build/test/; resolves with the file that Node runs. */
export async function buildProgram(source: string): Promise<string> {
  const name = relative("test", source).replace(/\.ts$/, ".mjs");
  const outfile = join(root, "build", "test", name);
  await build({
    absWorkingDir: root,
    entryPoints: [source],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20.19",
    packages: "external",
    sourcemap: "inline",
    logLevel: "warning",
  });
  return outfile;
}
