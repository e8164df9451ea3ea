/**
 * `blockwright check FILE`: looks for damage, and repairs it with -r, as qemu-img check does. Without -r nothing is written.
 */
import type { Command } from "commander";
import { addImageFlags, addQuietFlag, outputFlag, examples } from "../../options/verb-flags.ts";
import type { CheckFlags } from "./run.ts";

/** Adds the verb. */
export function addCheck(program: Command): void {
  const command = program
    .command("check")
    .description("look for damage in an image, and repair it with -r")
    .usage("[options] <file>")
    .addHelpText("after", examples("check -r all disk.qcow2"))
    .argument("[files...]", "one image file, or json:{…} as for --blockdev")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-r, --repair <what>", "leaks: free what nothing uses; all: mend errors too")
    .option("-T, --cache <mode>", "caching: none, writeback (default), unsafe, directsync, writethrough")
    .addOption(outputFlag());
  addQuietFlag(addImageFlags(command, { share: true })).action(async (files: string[], flags: CheckFlags) => {
    const { check } = await import("./run.ts");
    process.exitCode = await check(files, flags);
  });
}
