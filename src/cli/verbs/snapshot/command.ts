/**
 * `blockwright snapshot FILE`: lists, makes, applies and deletes internal snapshots, as qemu-img snapshot does.
 */
import type { Command } from "commander";
import { repeatable } from "../../options/flags.ts";
import { addImageFlags, addQuietFlag, examples } from "../../options/verb-flags.ts";
import type { SnapshotFlags } from "./run.ts";

/** Adds the verb. */
export function addSnapshot(program: Command): void {
  const command = program
    .command("snapshot")
    .description("list, make, apply or delete internal snapshots")
    .usage("[options] <file>")
    .addHelpText("after", examples("snapshot -c before-upgrade disk.qcow2", "snapshot -l disk.qcow2"))
    .argument("[files...]", "one image file, or json:{…} as for --blockdev")
    .option("-l, --list", "list them", (_value, before?: number) => (before ?? 0) + 1)
    .option("-a, --apply <snapshot>", "make the disk what it was then: id or name", repeatable)
    .option("-c, --create <name>", "keep the disk as it is now", repeatable)
    .option("-d, --delete <name>", "forget a snapshot", repeatable);
  addQuietFlag(addImageFlags(command, { share: true })).action(
    async (files: string[], flags: SnapshotFlags) => {
      const { snapshot } = await import("./run.ts");
      process.exitCode = await snapshot(files, flags);
    },
  );
}
