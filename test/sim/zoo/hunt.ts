/**
 * Builds a simulator with one planted bug, and has it tell the story that finds it.
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { watchRejections } from "../../../src/platform/node/rejections.ts";
import type * as Simulator from "../../../src/sim.ts";
import type { FoundStory } from "../../../src/sim/simulate.ts";
import type { Bug } from "./bug.ts";

/** The files as they are with a bug, by their paths. Throws where a patch does not fit the code any more. */
function patched(root: string, { name, also = [], ...first }: Bug): ReadonlyMap<string, string> {
  const contents = new Map<string, string>();
  for (const { file, find, replace } of [first, ...also]) {
    const path = join(root, file);
    const parts = (contents.get(path) ?? readFileSync(path, "utf8")).split(find);
    if (parts.length !== 2) throw new Error(`${name}: its text stands ${parts.length - 1} times in ${file}`);
    contents.set(path, parts.join(replace));
  }
  return contents;
}

/** The simulator with a bug in it. */
async function infected(root: string, bug: Bug): Promise<typeof Simulator> {
  const contents = patched(root, bug);
  const folder = join(root, "build", "test", "zoo");
  mkdirSync(folder, { recursive: true });
  const outfile = join(folder, `${bug.name}.mjs`);
  await build({
    absWorkingDir: root,
    entryPoints: [join(root, "src/sim.ts")],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20.19",
    packages: "external",
    logLevel: "error",
    plugins: [
      {
        name: "infect",
        setup: ({ onLoad }) =>
          onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const text = contents.get(path);
            return text === undefined ? undefined : { contents: text, loader: "ts" };
          }),
      },
    ],
  });
  if (!existsSync(outfile)) throw new Error(`${bug.name}: nothing was built`);
  return (await import(pathToFileURL(outfile).href)) as typeof Simulator;
}

/** How a hunt ended. */
export interface Catch {
  readonly found: FoundStory | undefined;
  /** Seconds of the processor that it took, to make the story smaller included. */
  readonly cpuSeconds: number;
}

/** Tells the story of the bug's seed, and makes it smaller if wanted. */
export async function hunt(root: string, bug: Bug, { shrink }: { shrink: boolean }): Promise<Catch> {
  const { simulate } = await infected(root, bug);
  const before = process.cpuUsage();
  const [found] = (await simulate({ seed: bug.seed, shrink, watchRejections })).violations;
  const { user, system } = process.cpuUsage(before);
  return { found, cpuSeconds: (user + system) / 1e6 };
}
