/**
 * `blockwright create FILE [SIZE]`: makes an image, as qemu-img create does. An image that could not be made leaves no file.
 */
import type { Command } from "commander";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import { gateFlag, repeatable, objectFlag } from "../../options/flags.ts";
import { addQuietFlag, examples } from "../../options/verb-flags.ts";
import type { CreateFlags } from "./run.ts";

/** Adds the verb. */
export function addCreate(program: Command): void {
  const command = program
    .command("create")
    .description("make an image")
    .usage("[options] <file> [size]")
    .addHelpText(
      "after",
      examples("create -f qcow2 disk.qcow2 10G", "create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2"),
    )
    .argument("[file]", "the file to make; what it holds is lost")
    .argument("[size]", "size of the disk: bytes, or 64k, 10M, 1.5G …; default: that of the backing file")
    .option("-f, --format <format>", "format of the image", plainFormat)
    .option("-b, --backing <file>", "backing file, relative to the image")
    .option("-F, --backing-format <format>", "format of the backing file")
    .option("-u, --unsafe", "do not open the backing file")
    .option("-o, --option <options>", "options of the format: name=value,…; `help` lists them", repeatable);
  addQuietFlag(command)
    .addOption(gateFlag())
    .addOption(objectFlag())
    .action(async (file: string | undefined, size: string | undefined, flags: CreateFlags) => {
      const { create } = await import("./run.ts");
      process.exitCode = await create({ file, size }, flags);
    });
}
