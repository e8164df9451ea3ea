/**
 * `blockwright bench`: sends reads or writes to an image and measures how long they take, as qemu-img bench does.
 */
import type { Command } from "commander";
import { addImageFlags, addQuietFlag } from "../../options/verb-flags.ts";
import type { BenchFlags } from "./run.ts";

/** Adds the verb. */
export function addBench(program: Command): void {
  const command = program
    .command("bench")
    .description("measure how long reads or writes of an image take")
    .usage("[options] <file>")
    .argument("[files...]", "one image file, or json:{…} as for --blockdev")
    .option("-c, --count <count>", "how many requests", "75000")
    .option("-d, --depth <count>", "requests under way at once", "64")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("--flush-interval <count>", "with -w: a flush after so many requests; 0: none", "0")
    .option("-i, --aio <mode>", "threads, native or io_uring: accepted, one way of I/O serves all")
    .option("-n, --native", "as -i native")
    .option("--no-drain", "with --flush-interval: send on while a flush is under way")
    .option("-o, --offset <bytes>", "where the first request begins", "0")
    .option("--pattern <byte>", "with -w: what is written", "0")
    .option("-s, --size <bytes>", "size of a request", "4096")
    .option("-S, --step-size <bytes>", "from one request to the next; 0: the size of a request", "0")
    .option("-t, --cache <mode>", "none, writeback (default), writethrough, directsync, unsafe")
    .option("-w, --write", "write instead of reading");
  addQuietFlag(addImageFlags(command, { share: true })).action(async (files: string[], flags: BenchFlags) => {
    const { bench } = await import("./run.ts");
    process.exitCode = await bench(files, flags);
  });
}
