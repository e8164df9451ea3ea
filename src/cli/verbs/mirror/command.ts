/**
 * `blockwright mirror SOURCE TARGET`: a full copy by the mirror job, in the foreground.
 */
import type { Command } from "commander";
import type { MirrorOptions } from "../../../api/jobs.ts";
import { type CopyFlags, addBitmapFlags, addCopyFlags } from "../../options/flags.ts";
import { runCopy } from "../../options/copy.ts";

/** Adds the verb. */
export function addMirror(program: Command): void {
  const command = program
    .command("mirror")
    .description("copy an image to another by a mirror job; errors are handled as the policies say");
  addBitmapFlags(addCopyFlags(command)).action(async (source: string, target: string, flags: CopyFlags) => {
    if (flags.bitmapMode !== undefined && flags.bitmap === undefined)
      command.error("error: option '--bitmap-mode <mode>' needs option '--bitmap <name>'");
    const isChosen = command.getOptionValueSource("targetFormat") === "cli";
    process.exitCode = await runCopy(
      { source, target },
      { ...flags, updateFormat: isChosen ? flags.targetFormat : undefined, kind: "mirror" },
      async (from, to, how) => {
        const { mirror } = await import("../../../api/jobs.ts");
        return mirror(from, to, {
          ...whatOf(flags),
          onSourceError: flags.onSourceError,
          onTargetError: flags.onTargetError,
          speedBytesPerSecond: flags.speed,
          ...how,
        });
      },
    );
  });
}

/** What is copied. */
function whatOf({ sync, bitmap, bitmapMode = "on-success" }: CopyFlags): MirrorOptions {
  return bitmap === undefined ? { sync } : { sync: "bitmap", bitmap, bitmapMode };
}
