/**
 * The verb `shims`: small shell scripts with the names of QEMU's programs, which run this one under those names. Scripts that
 * expect QEMU find them where the directory stands in PATH.
 *
 * Invariant: a file that is there and no shim is not replaced.
 */
import { lstat, readFile, realpath, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "../../../base/errors.ts";
import { makeFolders } from "../../../platform/node/folders.ts";
import type { VerbFlags } from "../../options/flags.ts";
import { programName, runAsArguments, standIns } from "../../program.ts";
import { reasonWithPath } from "../../reason.ts";

/** Options of the verb. */
export interface ShimsFlags extends Pick<VerbFlags, "quiet"> {
  force?: boolean;
}

const MARK = "# Runs Blockwright under the name of a program of QEMU's; made by `blockwright shims`.";

/** Makes them; resolves with the exit status. */
export async function shims(
  directory: string,
  { force = false, quiet = false }: ShimsFlags,
): Promise<number> {
  try {
    const program = await realpath(process.argv[1] ?? "");
    makeFolders(directory);
    const paths = Object.keys(standIns).map((name) => ({ name, path: join(directory, name) }));
    if (!force) for (const { path } of paths) await refuseOther(path);
    for (const { name, path } of paths) {
      await replace(path, script(program, name));
      if (!quiet) process.stdout.write(`${path}\n`);
    }
    return 0;
  } catch (error) {
    process.stderr.write(`${programName()}: ${reasonWithPath(error)}\n`);
    return 1;
  }
}

/** Throws for what is there and was not made by this verb: a link to QEMU's own program, above all. */
async function refuseOther(path: string): Promise<void> {
  try {
    const info = await lstat(path);
    if (info.isFile() && (await readFile(path, "utf8")).includes(MARK)) return;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw error;
  }
  throw new Error(`'${path}' exists; --force writes over it`);
}

/** In one step, so that a program that starts meanwhile finds the one or the other. */
async function replace(path: string, text: string): Promise<void> {
  const fresh = `${path}.${process.pid}`;
  await writeFile(fresh, text, { mode: 0o755 });
  await rename(fresh, path);
}

function script(program: string, name: string): string {
  const words = [process.execPath, program, ...runAsArguments(name)].map(quoted);
  return `#!/bin/sh\n${MARK}\nexec ${words.join(" ")} "$@"\n`;
}

/** A word for the shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
