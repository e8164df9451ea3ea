/**
 * `blockwright shims DIR`: programs named as QEMU's that are this one.
 */
import type { Command } from "commander";
import { addQuietFlag } from "../../options/verb-flags.ts";
import type { ShimsFlags } from "./run.ts";

/** Adds the verb. */
export function addShims(program: Command): void {
  const command = program
    .command("shims")
    .description(
      "make programs named qemu-img, qemu-io, qemu-nbd, qemu-storage-daemon and qemu-system-x86_64 that run Blockwright",
    )
    .argument("<directory>", "where they are put; made if it is missing")
    .option("--force", "replace files of these names that something else has made");
  addQuietFlag(command).action(async (directory: string, flags: ShimsFlags) => {
    const { shims } = await import("./run.ts");
    process.exitCode = await shims(directory, flags);
  });
}
