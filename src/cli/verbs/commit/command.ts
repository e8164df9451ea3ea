/**
 * `blockwright commit IMAGE`: copies an image into one below it by a commit job in the foreground, as qemu-img commit does, and
 * then empties it.
 */
import type { Command } from "commander";
import { addErrorFlag, addJobFlags } from "../../options/flags.ts";
import { addQuietFlag } from "../../options/verb-flags.ts";
import type { CommitFlags } from "./run.ts";

/** Adds the verb. */
export function addCommit(program: Command): void {
  const command = program
    .command("commit")
    .description("copy an image into its backing file, or a part of the chain into one below, and empty it")
    .usage("[options] <file>")
    .argument("[files...]", "the top of the backing chain: a file, or json:{…} as for --blockdev")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-t, --cache <mode>", "caching: writeback (default), none, unsafe, directsync, writethrough")
    .option("-b, --base <file>", "the image to commit into; default: the backing file. Implies -d")
    .option("-d, --drop", "do not empty the image: it is no longer needed")
    .option("-r, --rate-limit <rate>", "most bytes per second (64k, 10M …), as --speed")
    .option("--top <file>", "commit an image below the top, which then leaves the chain")
    .option("--image-opts", "the image is named by key=value options instead of by a file name");
  addErrorFlag(addJobFlags(addQuietFlag(command))).action(async (files: string[], flags: CommitFlags) => {
    const { commit } = await import("./run.ts");
    process.exitCode = await commit(files, flags);
  });
}
