/**
 * `blockwright map FILE`: which file of the backing chain holds each range of the disk, and where, as qemu-img map shows it.
 */
import { type Command, Option } from "commander";
import { addImageFlags, outputFlag } from "../../options/verb-flags.ts";
import type { MapFlags } from "./run.ts";

/** Adds the verb. */
export function addMap(program: Command): void {
  const command = program
    .command("map")
    .description("show which file of the chain holds each range of a disk, and where")
    .usage("[options] <file>")
    .argument("[files...]", "one image file, or json:{…} as for --blockdev")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-s, --start-offset <offset>", "start there (64k, 10M …)")
    .option("-l, --max-length <bytes>", "look at so much (64k, 10M …)")
    .addOption(outputFlag())
    .addOption(
      new Option("--compat <level>", "whose json it is: from 10.1 on it says what is compressed")
        .choices(["7.2", "10.1", "blockwright"])
        .default("7.2"),
    );
  addImageFlags(command, { share: true }).action(async (files: string[], flags: MapFlags) => {
    const { map } = await import("./run.ts");
    process.exitCode = await map(files, flags);
  });
}
