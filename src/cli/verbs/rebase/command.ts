/**
 * `blockwright rebase -b BACKING FILE`: gives an image another backing file, as qemu-img rebase does.
 */
import type { Command } from "commander";
import { addImageFlags, addProgressFlag, addQuietFlag, examples } from "../../options/verb-flags.ts";
import type { RebaseFlags } from "./run.ts";

/** Adds the verb. */
export function addRebase(program: Command): void {
  const command = program
    .command("rebase")
    .description("give an image another backing file, its content staying what it is")
    .usage("[options] <file>")
    .addHelpText("after", examples("rebase -b base.qcow2 -F qcow2 overlay.qcow2"))
    .argument("[files...]", "one image file, or json:{…} as for --blockdev")
    .option("-b, --backing <file>", "the new backing file, relative to the image; empty: none")
    .option("-F, --backing-format <format>", "format of the new backing file")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-u, --unsafe", "change the header only: the new backing file holds what the old one did")
    .option("-t, --cache <mode>", "caching of the image; default: writeback")
    .option("-T, --source-cache <mode>", "caching of the backing files; default: writeback");
  addProgressFlag(addQuietFlag(addImageFlags(command, { share: true }))).action(
    async (files: string[], flags: RebaseFlags) => {
      const { rebase } = await import("./run.ts");
      process.exitCode = await rebase(files, flags);
    },
  );
}
