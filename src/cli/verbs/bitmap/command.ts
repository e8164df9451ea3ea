/**
 * `blockwright bitmap`: adds, removes, clears, switches and merges an image's persistent bitmaps, as qemu-img bitmap does.
 */
import type { Command } from "commander";
import { addImageFlags, examples } from "../../options/verb-flags.ts";
import type { BitmapAction, BitmapFlags } from "./run.ts";

/** Adds the verb. */
export function addBitmap(program: Command): void {
  const actions: BitmapAction[] = [];
  const command = program
    .command("bitmap")
    .description("change a persistent bitmap of an image, by one or more actions in their order")
    .usage("[options] <file> <bitmap>")
    .addHelpText("after", examples("bitmap --add disk.qcow2 since-monday"))
    .argument("[words...]", "the image file, or json:{…} as for --blockdev, and the bitmap's name")
    .option("--add", "make the bitmap, recording")
    .option("--remove", "remove it")
    .option("--clear", "mark everything clean")
    .option("--enable", "let it record")
    .option("--disable", "let it record no more")
    .option("--merge <bitmap>", "add the bits of another bitmap, of the same image or of -b")
    .option("-b, --source-file <file>", "with --merge: the image that has the other bitmap")
    .option("-F, --source-format <format>", "format of that image; default: probed")
    .option("-g, --granularity <bytes>", "with --add: bytes for which one bit stands")
    .option("-f, --format <format>", "format of the image; default: probed");
  for (const kind of ["add", "remove", "clear", "enable", "disable", "merge"] as const)
    command.on(`option:${kind}`, (value: string | null) => actions.push({ kind, source: value ?? "" }));
  addImageFlags(command, { share: false }).action(
    async (words: string[], flags: Omit<BitmapFlags, "actions">) => {
      const { bitmap } = await import("./run.ts");
      process.exitCode = await bitmap(words, { ...flags, actions });
    },
  );
}
