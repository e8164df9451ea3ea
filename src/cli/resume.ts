/**
 * `blockwright job resume FILE`: the command line that a checkpoint keeps, with what stands behind FILE added to it.
 */
import { resolve } from "node:path";
import { loadCheckpoints } from "../api/checkpoint/index.ts";
import { CommandError, messageOf } from "../base/errors.ts";
import { createEngine } from "../node-engine.ts";
import { type CommandNote, goesOnAs } from "./checkpoint.ts";
import { printableMessage } from "./printable.ts";
import { programName } from "./program.ts";

/** Whether it is a checkpoint that is to be gone on with, and no job of another process. */
export function isOfCheckpoint(words: readonly string[]): boolean {
  const [verb, action, file] = words;
  if (verb !== "job" || action !== "resume" || file === undefined || file.startsWith("-")) return false;
  return !words.some((word) => word === "--qmp" || word.startsWith("--qmp="));
}

/** The words of the run that goes on; undefined where there is none, which was told. The working directory is that run's. */
export async function resumedWords([, , file = "", ...more]: readonly string[]): Promise<
  string[] | undefined
> {
  try {
    const { folder, words } = await readNote(file);
    const path = resolve(file);
    process.chdir(folder);
    goesOnAs(words);
    return [...words, "--checkpoint", path, ...more];
  } catch (error) {
    process.stderr.write(`${programName()}: ${printableMessage(messageOf(error))}\n`);
    process.exitCode = 1;
    return undefined;
  }
}

async function readNote(filename: string): Promise<CommandNote> {
  const { CheckpointFile } = await loadCheckpoints();
  const engine = createEngine({ warnUnflushed: false });
  try {
    const file = await CheckpointFile.open(engine, filename);
    const { found } = file;
    await file.close();
    const note = found?.note as CommandNote | undefined;
    if (!found) throw new CommandError(`the checkpoint '${filename}' says nothing yet: begin anew`);
    if (!Array.isArray(note?.words))
      throw new CommandError(
        `the checkpoint '${filename}' is one of the library: resumeJob() goes on with it`,
      );
    return note;
  } finally {
    await engine.close();
  }
}
