/**
 * The verb `io`: opens the disk that is named, then carries out the commands of -c, or those that come on stdin.
 * Exit status: 1 if a command failed, though the others are carried out. Source: behaviour of qemu-io 7.2.
 */
import { closing } from "../../../base/lease.ts";
import { createInterface } from "node:readline";
import { aioMode, cacheChoice, discardChoice } from "./choices.ts";
import { ioCommands } from "./commands.ts";
import { defaultChoices, type DiskChoices } from "./disk.ts";
import { Session } from "./session.ts";
import { programName, standIn } from "../../program.ts";
import { Refusal } from "../../refusal.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface IoFlags extends ImageVerbFlags {
  cmd?: string[];
  readOnly?: boolean;
  snapshot?: boolean;
  nocache?: boolean;
  copyOnRead?: boolean;
  misalign?: boolean;
  nativeAio?: boolean;
  aio?: string;
  cache?: string;
  discard?: string;
}

/** Runs the verb; resolves with the exit status. */
export function io(files: readonly string[], flags: IoFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const choices = choicesOf(flags);
    const [file] = files;
    if (files.length > 1) throw new Refusal("Only one image may be named");
    const session = new Session(verb, ioCommands);
    const work = async (): Promise<void> => {
      if (file !== undefined)
        await (flags.imageOpts
          ? session.open(undefined, { ...choices, options: file })
          : session.open(file, choices));
      await carryOut(session, flags.cmd);
    };
    await closing(work, () => close(session));
    return session.failed ? 1 : 0;
  });
}

/** Under QEMU's name what has failed is not told once more by the closing, whose status is the same. */
async function close(session: Session): Promise<void> {
  try {
    await session.close();
  } catch (error) {
    if (!session.failed || standIn() === undefined) throw error;
  }
}

function choicesOf(flags: IoFlags): DiskChoices {
  if (flags.imageOpts && flags.format !== undefined)
    throw new Refusal("--image-opts and -f are mutually exclusive");
  return {
    ...defaultChoices(),
    readOnly: flags.readOnly ?? false,
    snapshot: flags.snapshot ?? false,
    copyOnRead: flags.copyOnRead ?? false,
    forceShare: flags.forceShare ?? false,
    format: flags.format,
    ...(flags.nocache ? cacheChoice("none") : {}),
    ...(flags.cache === undefined ? {} : cacheChoice(flags.cache)),
    ...(flags.discard === undefined ? {} : { discard: discardChoice(flags.discard) }),
    ...(flags.nativeAio ? { aio: "native" } : {}),
    ...(flags.aio === undefined ? {} : { aio: aioMode(flags.aio) }),
  };
}

async function carryOut(session: Session, commands: readonly string[] | undefined): Promise<void> {
  if (commands) {
    for (const line of commands) {
      if (session.done) return;
      await session.execute(line);
    }
    return;
  }
  const prompt = `${programName()}> `;
  const lines = createInterface({ input: process.stdin, signal: session.verb.signal });
  session.verb.print(prompt);
  for await (const line of lines) {
    await session.execute(line);
    if (session.done) break;
    session.verb.print(prompt);
  }
  lines.close();
}
