/**
 * `blockwright stream IMAGE`: copies the backing chain into an image, in the foreground.
 */
import type { Command } from "commander";
import { type ChainFlags, addChainFlags } from "../../options/flags.ts";
import { runOnChain } from "../../options/chain.ts";

/** Adds the verb. */
export function addStream(program: Command): void {
  const command = program
    .command("stream")
    .description("copy what an image takes from its backing chain into it, and drop the images between")
    .option("-b, --base <file>", "the image of the chain that stays below; default: none");
  addChainFlags(command).action(async (image: string, flags: ChainFlags & { base?: string }) => {
    process.exitCode = await runOnChain(image, flags, async (node, how) => {
      const { stream } = await import("../../../api/jobs.ts");
      return stream(node, {
        base: flags.base,
        onError: flags.onError,
        speedBytesPerSecond: flags.speed,
        ...how,
      });
    });
  });
}
