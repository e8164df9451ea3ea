/**
 * drive-backup: a backup whose target image the command makes or opens itself.
 * Source: behaviour of QEMU 7.2's drive_backup_prepare.
 */
import { closing } from "../../base/lease.ts";
import { Role } from "../../block/model/contract.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { ArgsOf } from "../../wire/qapi/index.ts";
import { BackupAction } from "./action.ts";
import { type BackupStartOptions, createBackup } from "./create.ts";
import type { BackupJob } from "./job.ts";
import { openTargetImage } from "../core/target-image.ts";

/** drive-backup's arguments as the wire has them. */
export type DriveBackupArgs = ArgsOf<"drive-backup">;

/** Makes or opens the target. */
class DriveBackupAction extends BackupAction {
  readonly #args: DriveBackupArgs;
  readonly #options: BackupStartOptions;

  constructor(graph: BlockGraph, args: DriveBackupArgs, options: BackupStartOptions = {}) {
    super(graph);
    this.#args = args;
    this.#options = options;
  }

  protected override async create(): Promise<BackupJob> {
    const { device, target: filename, format, mode, ...args } = this.#args;
    const source = this.graph.rootNode(device);
    await this.drain(source);
    source.checkBlocked("backup-source");
    const target = await openTargetImage(this.graph, {
      source,
      target: filename,
      format,
      sync: args.sync,
      mode: mode ?? "absolute-paths",
    });
    const create = async (): Promise<BackupJob> => {
      // What a backup of sync=none has not copied is read through the target from the source.
      if (args.sync === "none") await this.graph.setBacking(target, source, Role.cow);
      return createBackup(this.graph, { source, target, args, options: this.#options });
    };
    return closing(create, () => this.graph.release(target));
  }
}

/** drive-backup as an action of a transaction. */
export function driveBackupAction(
  graph: BlockGraph,
  args: DriveBackupArgs,
  options: BackupStartOptions = {},
): BackupAction {
  return new DriveBackupAction(graph, args, options);
}

/** drive-backup. Throws CommandError in QEMU's words; resolves with the running job. */
export function startDriveBackup(
  graph: BlockGraph,
  args: DriveBackupArgs,
  options: BackupStartOptions = {},
): Promise<BackupJob> {
  return new DriveBackupAction(graph, args, options).run();
}
