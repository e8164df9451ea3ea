/**
 * Starting backups: blockdev-backup here, drive-backup in drive-backup.ts, alone or as actions of a transaction.
 * Source: behaviour of QEMU 7.2's blockdev.c.
 */
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { ArgsOf } from "../../wire/qapi/index.ts";
import { BackupAction } from "./action.ts";
import { type BackupStartOptions, createBackup } from "./create.ts";
import type { BackupJob } from "./job.ts";

export type { BackupAction, TransactionAction } from "./action.ts";
export type { BackupStartOptions } from "./create.ts";
export { driveBackupAction, startDriveBackup } from "./drive-backup.ts";

/** blockdev-backup's arguments as the wire has them. */
export type BackupArgs = ArgsOf<"blockdev-backup">;

/** blockdev-backup as an action. */
class BlockdevBackupAction extends BackupAction {
  readonly #args: BackupArgs;
  readonly #options: BackupStartOptions;

  constructor(graph: BlockGraph, args: BackupArgs, options: BackupStartOptions = {}) {
    super(graph);
    this.#args = args;
    this.#options = options;
  }

  protected override async create(): Promise<BackupJob> {
    const source = this.graph.lookup(this.#args.device);
    const target = this.graph.lookup(this.#args.target);
    await this.drain(source);
    return createBackup(this.graph, { source, target, args: this.#args, options: this.#options });
  }
}

/** blockdev-backup as an action of a transaction. */
export function backupAction(
  graph: BlockGraph,
  args: BackupArgs,
  options: BackupStartOptions = {},
): BackupAction {
  return new BlockdevBackupAction(graph, args, options);
}

/** blockdev-backup. Throws CommandError in QEMU's words; resolves with the running job. */
export function startBackup(
  graph: BlockGraph,
  args: BackupArgs,
  options: BackupStartOptions = {},
): Promise<BackupJob> {
  return new BlockdevBackupAction(graph, args, options).run();
}
