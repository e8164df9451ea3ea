/**
 * `blockwright dd if=FILE of=FILE`: copies blocks of an image into a new one, as qemu-img dd does.
 */
import type { Command } from "commander";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import { addImageFlags, examples } from "../../options/verb-flags.ts";
import type { DdFlags } from "./run.ts";

/** Adds the verb. */
export function addDd(program: Command): void {
  const command = program
    .command("dd")
    .description("copy blocks of an image into a new one")
    .usage("[options] if=<input> of=<output> [bs=<bytes>] [count=<blocks>] [skip=<blocks>]")
    .addHelpText("after", examples("dd -O qcow2 if=disk.raw of=first.qcow2 bs=1M count=64"))
    .argument("[operands...]", "if=INPUT of=OUTPUT [bs=BYTES] [count=BLOCKS] [skip=BLOCKS]")
    .option("-f, --format <format>", "format of the input; default: probed")
    .option("-O, --target-format <format>", "format of the output", plainFormat);
  addImageFlags(command, { share: true }).action(async (operands: string[], flags: DdFlags) => {
    const { dd } = await import("./run.ts");
    process.exitCode = await dd(operands, flags);
  });
}
