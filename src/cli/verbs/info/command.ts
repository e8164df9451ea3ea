/**
 * `blockwright info FILE`: what an image is, in the words of qemu-img info.
 */
import type { Command } from "commander";
import { addImageFlags, outputFlag, examples } from "../../options/verb-flags.ts";
import type { InfoFlags } from "./run.ts";

/** Adds the verb. */
export function addInfo(program: Command): void {
  const command = program
    .command("info")
    .description("show format, sizes, backing file, snapshots and bitmaps of an image")
    .usage("[options] <file>")
    .addHelpText(
      "after",
      examples("info --backing-chain --output json overlay.qcow2", "info https://example.org/disk.qcow2"),
    )
    .argument("[files...]", "one image file, or json:{…} as for --blockdev")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("--backing-chain", "show the whole backing chain")
    .addOption(outputFlag());
  addImageFlags(command, { share: true }).action(async (files: string[], flags: InfoFlags) => {
    const { info } = await import("./run.ts");
    process.exitCode = await info(files, flags);
  });
}
