/**
 * `blockwright amend -o OPTIONS FILE`: changes what was chosen when an image was made, as qemu-img amend does.
 */
import type { Command } from "commander";
import { repeatable } from "../../options/flags.ts";
import { addImageFlags, addProgressFlag, addQuietFlag, examples } from "../../options/verb-flags.ts";
import type { AmendFlags } from "./run.ts";

/** Adds the verb. */
export function addAmend(program: Command): void {
  const command = program
    .command("amend")
    .description("change what was chosen when an image was made")
    .usage("[options] -o <options> <file>")
    .addHelpText("after", examples("amend -o compat=1.1 disk.qcow2"))
    .argument("[files...]", "one image file, or json:{…} as for --blockdev")
    .option("-o, --option <options>", "what to change: name=value,…; `help` lists it", repeatable)
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-t, --cache <mode>", "none, writeback (default), writethrough, directsync, unsafe")
    .option("--force", "also do what may lose access to data");
  addProgressFlag(addQuietFlag(addImageFlags(command, { share: false }))).action(
    async (files: string[], flags: AmendFlags) => {
      const { amend } = await import("./run.ts");
      process.exitCode = await amend(files, flags);
    },
  );
}
