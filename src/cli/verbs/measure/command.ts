/**
 * `blockwright measure`: how large an image would become, as qemu-img measure says it.
 */
import type { Command } from "commander";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import { repeatable } from "../../options/flags.ts";
import { addImageFlags, outputFlag, examples } from "../../options/verb-flags.ts";
import type { MeasureFlags } from "./run.ts";

/** Adds the verb. */
export function addMeasure(program: Command): void {
  const command = program
    .command("measure")
    .description("say how large a new image would become")
    .usage("[options] (--size <bytes> | <file>)")
    .addHelpText("after", examples("measure -O qcow2 --size 10G"))
    .argument("[files...]", "the image that shall be copied, instead of --size")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-O, --target-format <format>", "format of the new image", plainFormat)
    .option("-o, --option <options>", "options of the new image: name=value,…", repeatable)
    .option("--size <bytes>", "size of the disk (64k, 10M …)")
    .option("-l, --snapshot <snapshot>", "measure an internal snapshot: its id or name")
    .addOption(outputFlag());
  addImageFlags(command, { share: true }).action(async (files: string[], flags: MeasureFlags) => {
    const { measure } = await import("./run.ts");
    process.exitCode = await measure(files, flags);
  });
}
