/**
 * `blockwright resize FILE [+|-]SIZE`: makes a disk longer or shorter, as qemu-img resize does.
 */
import type { Command } from "commander";
import { addImageFlags, addQuietFlag, examples } from "../../options/verb-flags.ts";
import type { ResizeFlags } from "./run.ts";

/** Adds the verb. */
export function addResize(program: Command): void {
  const command = program
    .command("resize")
    .description("make a disk longer or shorter")
    .usage("[options] <file> [+|-]<size>")
    .addHelpText("after", examples("resize disk.qcow2 +1G"))
    .argument("[words...]", "an image file, and its new size: 10G, +1G or -512M")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("--shrink", "allow a smaller size: what lies beyond it is lost")
    .option("--preallocation <mode>", "how the new part is prepared: off (default), metadata, falloc, full")
    // A size such as -512M is no option.
    .allowUnknownOption();
  addQuietFlag(addImageFlags(command, { share: false })).action(
    async (words: string[], flags: ResizeFlags) => {
      const { resize } = await import("./run.ts");
      process.exitCode = await resize(words, flags);
    },
  );
}
