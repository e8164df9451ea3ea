/**
 * `blockwright compare A B`: whether two disks hold the same, as qemu-img compare says it.
 */
import type { Command } from "commander";
import { addImageFlags, addProgressFlag, addQuietFlag } from "../../options/verb-flags.ts";
import type { CompareFlags } from "./run.ts";

/** Adds the verb. */
export function addCompare(program: Command): void {
  const command = program
    .command("compare")
    .description("compare the content of two disks")
    .usage("[options] <file> <file>")
    .argument("[files...]", "two image files, or json:{…} as for --blockdev")
    .option("-f, --format <format>", "format of the first image; default: probed")
    .option("-F, --second-format <format>", "format of the second image; default: probed")
    .option("-T, --cache <mode>", "caching: none, writeback (default), unsafe, directsync, writethrough")
    .option("-s, --strict", "sizes and allocation must be the same too");
  addProgressFlag(addQuietFlag(addImageFlags(command, { share: true }))).action(
    async (files: string[], flags: CompareFlags) => {
      const { compare } = await import("./run.ts");
      process.exitCode = await compare(files, flags);
    },
  );
}
