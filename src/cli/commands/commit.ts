/**
 * `blockwright commit IMAGE`: copies an image into one below it, in the foreground. The committed image itself stays as
 * it is and is no longer needed.
 */
import type { Command } from "commander";
import { type ChainFlags, addChainFlags } from "../flags.ts";
import { runOnChain } from "./chain.ts";

/** Adds the verb. */
export function addCommit(program: Command): void {
  const command = program
    .command("commit")
    .description("copy an image into its backing file, or a part of the chain into one below")
    .option("-t, --top <file>", "the image to commit; default: the active one")
    .option("-b, --base <file>", "the image to commit into; default: the lowest");
  addChainFlags(command).action(
    async (image: string, flags: ChainFlags & { top?: string; base?: string }) => {
      process.exitCode = await runOnChain(image, flags, async (node, signal) => {
        const { commit } = await import("../../node.ts");
        return commit(node, {
          top: flags.top,
          base: flags.base,
          onError: flags.onError,
          speedBytesPerSecond: flags.speed,
          signal,
        });
      });
    },
  );
}
