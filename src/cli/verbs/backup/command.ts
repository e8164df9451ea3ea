/**
 * `blockwright backup SOURCE TARGET`: a copy by the backup job, in the foreground; and the verbs over backups that are kept.
 */
import type { Command } from "commander";
import { type CopyFlags, addCopyFlags } from "../../options/flags.ts";
import { runCopy } from "../../options/copy.ts";
import { addKeptBackups } from "./keep-command.ts";

/** Adds the verb. */
export function addBackup(program: Command): void {
  const command = program
    .command("backup")
    .description("copy an image to another by a backup job; errors are handled as the policies say")
    .option("--compress", "store compressed clusters (qcow2)");
  addKeptBackups(command);
  addCopyFlags(command).action(
    async (source: string, target: string, flags: CopyFlags & { compress?: boolean }) => {
      process.exitCode = await runCopy(
        { source, target },
        { ...flags, kind: "backup" },
        async (from, to, how) => {
          const { backup } = await import("../../../api/jobs.ts");
          return backup(from, to, {
            sync: flags.sync,
            compress: flags.compress,
            onSourceError: flags.onSourceError,
            onTargetError: flags.onTargetError,
            speedBytesPerSecond: flags.speed,
            ...how,
          });
        },
      );
    },
  );
}
