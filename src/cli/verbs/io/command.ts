/**
 * `blockwright io`: reads and writes by command, with patterns and their verification, as qemu-io does.
 */
import type { Command } from "commander";
import { repeatable } from "../../options/flags.ts";
import { addImageFlags } from "../../options/verb-flags.ts";
import type { IoFlags } from "./run.ts";

/** Adds the verb. */
export function addIo(program: Command): void {
  const command = program
    .command("io")
    .description("read and write by command, with patterns and their verification")
    .usage("[options] [file]")
    .argument("[files...]", "an image file, or json:{…} as for --blockdev")
    .option(
      "-c, --cmd <command>",
      "carry out a command, may be repeated; default: those on stdin",
      repeatable,
    )
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-r, --read-only", "open the image read-only")
    .option("-s, --snapshot", "write to an overlay that is thrown away")
    .option("-n, --nocache", "as -t none")
    .option("-C, --copy-on-read", "copy what is read from the backing file into the image")
    .option("-m, --misalign", "accepted, without effect")
    .option("-k, --native-aio", "as -i native")
    .option("-i, --aio <mode>", "threads, native or io_uring: accepted, one way of I/O serves all")
    .option("-t, --cache <mode>", "none, writeback (default), writethrough, directsync, unsafe")
    .option("-d, --discard <mode>", "unmap (default) or ignore");
  addImageFlags(command, { share: true }).action(async (files: string[], flags: IoFlags) => {
    const { io } = await import("./run.ts");
    process.exitCode = await io(files, flags);
  });
}
