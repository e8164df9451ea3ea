#!/usr/bin/env node
/**
 * The command line program blockwright. Each verb is loaded when it is asked for, so that --help stays fast.
 */
import { Command } from "commander";
import { version } from "../version.ts";
import { addAmend } from "./verbs/amend/command.ts";
import { addBackup } from "./verbs/backup/command.ts";
import { addBench } from "./verbs/bench/command.ts";
import { addBitmap } from "./verbs/bitmap/command.ts";
import { addCheck } from "./verbs/check/command.ts";
import { addCommit } from "./verbs/commit/command.ts";
import { addCompare } from "./verbs/compare/command.ts";
import { addCompletion, addMan } from "./verbs/completion/command.ts";
import { addConvert } from "./verbs/convert/command.ts";
import { addCreate } from "./verbs/create/command.ts";
import { addDd } from "./verbs/dd/command.ts";
import { addDemo } from "./verbs/demo/command.ts";
import { addInfo } from "./verbs/info/command.ts";
import { addIo } from "./verbs/io/command.ts";
import { addManifest } from "./verbs/manifest/command.ts";
import { addMap } from "./verbs/map/command.ts";
import { addMeasure } from "./verbs/measure/command.ts";
import { addMirror } from "./verbs/mirror/command.ts";
import { addRebase } from "./verbs/rebase/command.ts";
import { addResize } from "./verbs/resize/command.ts";
import { addSnapshot } from "./verbs/snapshot/command.ts";
import { addStream } from "./verbs/stream/command.ts";
import { usageError, usageHint } from "./usage.ts";

// Whoever wants to know how far a verb is may ask before, or after, there is an answer: Node would start its debugger.
process.on("SIGUSR1", () => undefined);
// A reader that goes away is an end that runs see to; after them it is none of anybody's concern.
process.stdout.on("error", () => undefined);

const program = new Command("blockwright")
  .description(
    "QEMU's block layer and block jobs for Node: disk images mirrored, backed up, streamed and committed live",
  )
  .version(version, "-V, --version")
  .showHelpAfterError(usageHint)
  .showSuggestionAfterError(false)
  .configureOutput({
    outputError: (text, write) => write(`blockwright: ${usageError(text, process.argv)}\n`),
  })
  .enablePositionalOptions();

// The daemon has qemu-storage-daemon's command line, whose options are carried out in their order.
program
  .command("daemon")
  .description("run block jobs over QMP, with the command line of qemu-storage-daemon")
  .helpOption(false)
  .allowUnknownOption()
  .passThroughOptions()
  .argument("[options...]")
  .action(async (args: string[]) => {
    const { daemon } = await import("./daemon/daemon.ts");
    process.exit(await daemon(args));
  });

addCreate(program);
addCheck(program);
addInfo(program);
addMap(program);
addCompare(program);
addConvert(program);
addDd(program);
addSnapshot(program);
addRebase(program);
addResize(program);
addMeasure(program);
addAmend(program);
addBitmap(program);
addBench(program);
addIo(program);
addManifest(program);
addMirror(program);
addBackup(program);
addStream(program);
addCommit(program);
addDemo(program);
addCompletion(program);
addMan(program);

await program.parseAsync();
