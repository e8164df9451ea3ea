/**
 * `blockwright convert SOURCE TARGET`: copies an image into a new one of another format or with other options, as qemu-img
 * convert does.
 */
import type { Command } from "commander";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import { checkpointFlag, repeatable } from "../../options/flags.ts";
import { addImageFlags, addProgressFlag, addQuietFlag, examples } from "../../options/verb-flags.ts";
import type { ConvertFlags } from "./run.ts";

/** Adds the verb. */
export function addConvert(program: Command): void {
  const command = program
    .command("convert")
    .description("copy an image into a new one of another format or with other options")
    .usage("[options] <source...> <target>")
    .addHelpText(
      "after",
      examples(
        "convert -O qcow2 disk.raw disk.qcow2",
        "convert -c -O qcow2 -o compression_type=zstd disk.qcow2 small.qcow2",
      ),
    )
    .argument("[files...]", "sources, which are joined, and the target: image files, or json:{…}")
    .option("-f, --format <format>", "format of the source; default: probed")
    .option("-O, --target-format <format>", `format of the target; default: ${plainFormat}`)
    .option("-o, --option <options>", "options of the target: name=value,…; `help` lists them", repeatable)
    .option(
      "-B, --backing <file>",
      "backing file of the target; only what the source has above its own is copied",
    )
    .option("-F, --backing-format <format>", "format of the backing file")
    .option("-n, --no-create", "write into an image that is there")
    .option("--target-is-zero", "with -n: the target reads as zeroes")
    .option("--target-image-opts", "with -n: the target is named by key=value options")
    .option("-c, --compress", "store compressed clusters")
    .option("--compression-level <level>", "with -c: 1 (fast) to 9 for zlib, to 22 for zstd; default: QEMU's")
    .option("-S, --sparse <bytes>", "runs of zeroes that are not stored; 0: store everything; default: 4k")
    .option("-m, --parallel <count>", "pieces under way at once, 1 to 16")
    .option("-W, --out-of-order", "write pieces as they are read, not in their order")
    .option("-t, --cache <mode>", "caching of the target; default: unsafe")
    .option("-T, --source-cache <mode>", "caching of the source; default: writeback")
    .option(
      "-l, --snapshot <snapshot>",
      "copy an internal snapshot: its id or name, or snapshot.id=…,snapshot.name=…",
    )
    .option("-r, --rate-limit <rate>", "data copied per second at most (64k, 10M …)")
    .option(
      "-C, --offload",
      "the system copies within itself where it can (needs koffi): zeroes are copied as data",
    )
    .addOption(checkpointFlag())
    .option("--salvage", "go on where the source can't be read: what is missing becomes zeroes")
    .option("--bitmaps", "copy the source's persistent bitmaps too")
    .option("--skip-broken-bitmaps", "with --bitmaps: leave inconsistent ones out");
  addProgressFlag(addQuietFlag(addImageFlags(command, { share: true }))).action(
    async (files: string[], flags: ConvertFlags) => {
      const { convert } = await import("./run.ts");
      process.exitCode = await convert(files, flags);
    },
  );
}
