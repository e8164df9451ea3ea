/**
 * `blockwright mirror SOURCE TARGET`: a full copy by the mirror job, in the foreground.
 */
import type { Command } from "commander";
import { type CopyFlags, addCopyFlags } from "../../options/flags.ts";
import { runCopy } from "../../options/copy.ts";

/** Adds the verb. */
export function addMirror(program: Command): void {
  const command = program
    .command("mirror")
    .description("copy an image to another by a mirror job; errors are handled as the policies say");
  addCopyFlags(command).action(async (source: string, target: string, flags: CopyFlags) => {
    process.exitCode = await runCopy(
      { source, target },
      { ...flags, kind: "mirror" },
      async (from, to, how) => {
        const { mirror } = await import("../../../api/jobs.ts");
        return mirror(from, to, {
          sync: flags.sync,
          onSourceError: flags.onSourceError,
          onTargetError: flags.onTargetError,
          speedBytesPerSecond: flags.speed,
          ...how,
        });
      },
    );
  });
}
