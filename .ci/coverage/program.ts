/**
 * Which branches of the sources the program takes in the processes that tests start. While tests run, build/cli/program.js is a bundle with a
 * map back to the sources, and Node writes what each process took (NODE_V8_COVERAGE); one that is killed tells nothing.
 */
import { mergeScriptCovs } from "@bcoe/v8-coverage";
import convert from "ast-v8-to-istanbul";
import { build } from "esbuild";
import { existsSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseAstAsync } from "vitest/node";
import type { Coverage } from "./counts.ts";
import { type Script, scriptsOf } from "./reports.ts";

/** What the launcher and the tests' server of verbs put before the script. */
const HEAD = "(function (exports, require, module, __filename, __dirname) {";
/** Reports that are merged at once. */
const BATCH = 20;

/** The program with a map, in the place of the one that was built. */
export class CoveredProgram {
  readonly #root: string;
  readonly #file: string;
  readonly #kept: string;
  /** Where processes write what they took. */
  readonly reports = mkdtempSync(join(tmpdir(), "blockwright-took-"));

  constructor(root: string) {
    this.#root = root;
    this.#file = join(root, "build", "cli", "program.js");
    this.#kept = `${this.#file}.built`;
  }

  /** What the tests' environment needs. */
  get environment(): Record<string, string> {
    // Compiled code of the built program is none of this one's.
    return { NODE_V8_COVERAGE: this.reports, BLOCKWRIGHT_CODE_CACHE: "off" };
  }

  /** Puts it there. */
  async install(): Promise<void> {
    if (!existsSync(this.#kept)) renameSync(this.#file, this.#kept);
    const { version } = JSON.parse(readFileSync(join(this.#root, "package.json"), "utf8")) as {
      version: string;
    };
    await build({
      absWorkingDir: this.#root,
      entryPoints: ["src/cli/blockwright.ts"],
      outfile: this.#file,
      bundle: true,
      format: "cjs",
      platform: "node",
      target: "node20.19",
      charset: "ascii",
      packages: "external",
      supported: { "dynamic-import": false },
      sourcemap: true,
      define: { BLOCKWRIGHT_VERSION: JSON.stringify(version), "import.meta.url": "ownUrl" },
      banner: { js: 'const ownUrl = require("node:url").pathToFileURL(__filename).href;' },
      logLevel: "warning",
    });
  }

  /** Puts the built one back. */
  restore(): void {
    rmSync(`${this.#file}.map`, { force: true });
    if (existsSync(this.#kept)) renameSync(this.#kept, this.#file);
  }

  /** What all processes took, by source. Call it before restore(). */
  async coverage(): Promise<Coverage> {
    const took = this.#merged();
    rmSync(this.reports, { recursive: true, force: true });
    if (!took) return {};
    const code = readFileSync(this.#file, "utf8");
    const sourceMap = JSON.parse(readFileSync(`${this.#file}.map`, "utf8")) as object;
    const converted: unknown = await convert({
      code,
      sourceMap: sourceMap as never,
      ast: (await parseAstAsync(code)) as never,
      coverage: took,
      wrapperLength: HEAD.length,
    });
    return converted as Coverage;
  }

  #merged(): Script | undefined {
    const url = pathToFileURL(this.#file).href;
    let scripts: Script[] = [];
    for (const name of readdirSync(this.reports)) {
      scripts.push(
        ...scriptsOf(readFileSync(join(this.reports, name), "utf8")).filter((one) => one.url === url),
      );
      if (scripts.length >= BATCH) scripts = merged(scripts);
    }
    return merged(scripts)[0];
  }
}

function merged(scripts: readonly Script[]): Script[] {
  const one = mergeScriptCovs(scripts);
  return one ? [one] : [];
}
