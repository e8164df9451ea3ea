#!/usr/bin/env node
/**
 * The command line program blockwright. Each verb is loaded when it is asked for, so that --help stays fast.
 */
import { Command } from "commander";
import { version } from "../version.ts";
import { addAmend } from "./commands/amend.ts";
import { addBackup } from "./commands/backup.ts";
import { addBench } from "./commands/bench.ts";
import { addBitmap } from "./commands/bitmap.ts";
import { addCheck } from "./commands/check.ts";
import { addCommit } from "./commands/commit.ts";
import { addCompare } from "./commands/compare.ts";
import { addCompletion, addMan } from "./commands/completion.ts";
import { addConvert } from "./commands/convert.ts";
import { addCreate } from "./commands/create.ts";
import { addDd } from "./commands/dd.ts";
import { addDemo } from "./commands/demo.ts";
import { addInfo } from "./commands/info.ts";
import { addIo } from "./commands/io.ts";
import { addManifest } from "./commands/manifest.ts";
import { addMap } from "./commands/map.ts";
import { addMeasure } from "./commands/measure.ts";
import { addMirror } from "./commands/mirror.ts";
import { addRebase } from "./commands/rebase.ts";
import { addResize } from "./commands/resize.ts";
import { addSnapshot } from "./commands/snapshot.ts";
import { addStream } from "./commands/stream.ts";
import { usageError, usageHint } from "./usage.ts";

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
    const { daemon } = await import("./daemon.ts");
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
