#!/usr/bin/env node
/**
 * The command line program blockwright. Each verb is loaded when it is asked for, so that --help stays fast.
 */
import { Command, type OutputConfiguration } from "commander";
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
import { addShims } from "./verbs/shims/command.ts";
import { addSnapshot } from "./verbs/snapshot/command.ts";
import { addStream } from "./verbs/stream/command.ts";
import { programName, standIn, standInVersion, takeName } from "./program.ts";
import { runAs, standInFor } from "./stand-in.ts";
import { usageError, usageHint } from "./usage.ts";

// Whoever wants to know how far a verb is may ask before, or after, there is an answer: Node would start its debugger.
process.on("SIGUSR1", () => undefined);
// A reader that goes away is an end that runs see to; after them it is none of anybody's concern.
process.stdout.on("error", () => undefined);

const args = takeName(process.argv.slice(2));
const alias = standIn();

const output: OutputConfiguration = {
  outputError: (text, write) => write(`${programName()}: ${usageError(text, args)}\n`),
};

const program = new Command(programName())
  .description(
    "QEMU's block layer and block jobs for Node: disk images mirrored, backed up, streamed and committed live",
  )
  .version(alias ? standInVersion() : version, "-V, --version")
  .showHelpAfterError(usageHint())
  .showSuggestionAfterError(false)
  .configureOutput(output)
  .enablePositionalOptions();

// The daemon has qemu-storage-daemon's command line, whose options are carried out in their order.
program
  .command("daemon")
  .description("run block jobs over QMP, with the command line of qemu-storage-daemon")
  .helpOption(false)
  .allowUnknownOption()
  .passThroughOptions()
  .argument("[options...]")
  .action(async (words: string[]) => {
    const { daemon } = await import("./daemon/daemon.ts");
    const { endProcess } = await import("../platform/node/exit.ts");
    endProcess(await daemon(words));
  });

const verbs = [
  addCreate,
  addCheck,
  addInfo,
  addMap,
  addCompare,
  addConvert,
  addDd,
  addSnapshot,
  addRebase,
  addResize,
  addMeasure,
  addAmend,
  addBitmap,
  addBench,
  addIo,
  addManifest,
  addMirror,
  addBackup,
  addStream,
  addCommit,
  addDemo,
  addShims,
  addCompletion,
  addMan,
];
for (const add of verbs) add(program);

if (alias) {
  await standInFor(program, alias, args);
  await runAs(program, alias, args);
} else await program.parseAsync(args, { from: "user" });
