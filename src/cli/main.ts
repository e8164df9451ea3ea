#!/usr/bin/env node
/**
 * Starts the program: a launcher of a few lines, in front of the bundle of everything, whose compiled code it keeps
 * (BLOCKWRIGHT_CODE_CACHE: where, or `off`). A program that is started for every small image must start at once.
 *
 * Invariant: only what the launcher needs is imported here; this is a bundle of its own.
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { version } from "../version.ts";
import { optimiseLater } from "../platform/node/compiler.ts";
import { runCached } from "../platform/node/code-cache.ts";
import { requireLate } from "../platform/node/late-modules.ts";

/** The hash of the program's scripts; put in by the build. */
declare const BLOCKWRIGHT_PROGRAM_HASH: string;

/** Where users' programs keep what they can make anew. */
function cacheFolder(): string | undefined {
  const { BLOCKWRIGHT_CODE_CACHE: chosen, XDG_CACHE_HOME, HOME, NODE_DISABLE_COMPILE_CACHE } = process.env;
  if (chosen === "off" || NODE_DISABLE_COMPILE_CACHE === "1") return undefined;
  if (chosen) return chosen;
  const caches = XDG_CACHE_HOME || (HOME && join(HOME, ".cache"));
  return caches ? join(caches, "blockwright") : undefined;
}

/** Verbs differ in what they run: each has compiled code of its own. */
function useOf(words: readonly string[]): string {
  const [first = "", second = ""] = words;
  const use = first.startsWith("--run-as=") ? `${first.slice("--run-as=".length)}-${second}` : first;
  return /^(?:--)?[a-z][a-z-]{0,40}$/.test(use) ? use : "other";
}

/** Verbs that read or write whole disks, or serve who does, and end soon after. Telling V8 loads a module that takes others 3 ms. */
const COPYING = new Set(["convert", "compare", "dd", "rebase", "bench", "io", "manifest", "nbd"]);

/** Threads of Node's pool for a server: as many writes of its clients may wait for the disk at once. Read when the first is needed. */
const SERVER_THREADS = "32";

/** How the program requires the other part of it. */
const FURTHER = "./further.js";

/** Without the stream that Node makes of standard output, where that does: it loads Node's network and terminal modules. */
function writeVersion(): void {
  const line = `${version}\n`;
  try {
    writeSync(1, line);
  } catch {
    process.stdout.write(line);
  }
}

// Programs that run Node's modules in another engine have no compiled code of V8's.
const words = process.argv.slice(2);
const isNode = !("bun" in process.versions || "deno" in process.versions);
if (words.length === 1 && (words[0] === "-V" || words[0] === "--version")) writeVersion();
else if (isNode) {
  const name = useOf(words);
  const verb = name.replace(/^qemu-(?:img-|(?=io|nbd))/, "").replace(/^(io|nbd)-.*/, "$1");
  if (COPYING.has(verb)) optimiseLater();
  if (verb === "nbd") process.env["UV_THREADPOOL_SIZE"] ??= SERVER_THREADS;
  const requireOwn = requireLate(require);
  const run = (script: string, use: string, requireIt: (id: string) => unknown): unknown =>
    runCached({
      file: join(__dirname, script),
      hash: BLOCKWRIGHT_PROGRAM_HASH,
      folder: cacheFolder(),
      name: use,
      require: Object.assign(requireIt, require),
    });
  // What few verbs need is a script of its own, which the program requires.
  run("program.js", name, (id) =>
    id === FURTHER ? run("further.js", `${name}-further`, requireOwn) : requireOwn(id),
  );
} else require(join(__dirname, "program.js"));
