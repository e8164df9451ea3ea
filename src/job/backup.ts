/**
 * Starting a backup, as a transaction action: prepare drains the source and makes the job (backup-create.ts), commit
 * starts it, clean ends the drain. So every backup shows a paused state at its start.
 * Source: behaviour of QEMU 7.2's blockdev.c.
 */
import { assert } from "../base/assert.ts";
import { drainedBegin, drainedEnd } from "../block/drain.ts";
import { Role } from "../block/driver.ts";
import type { BlockGraph } from "../block/graph.ts";
import type { BlockNode } from "../block/node.ts";
import type { ArgsOf } from "../wire/qapi/index.ts";
import { createBackup } from "./backup-create.ts";
import type { BackupJob } from "./backup-job.ts";
import type { StartOptions } from "./job-arguments.ts";
import { rootNode } from "./mirror.ts";
import { openTargetImage } from "./target-image.ts";

/** blockdev-backup's arguments as the wire has them. */
export type BackupArgs = ArgsOf<"blockdev-backup">;

/** drive-backup's arguments as the wire has them. */
export type DriveBackupArgs = ArgsOf<"drive-backup">;

/** Finds or makes the source, drains it by `drain`, and creates the job, not started. */
type CreateJob = (drain: (source: BlockNode) => Promise<void>) => Promise<BackupJob>;

/** A backup as one action of a transaction. clean() always comes last, also when prepare() has thrown. */
export class BackupAction {
  readonly #create: CreateJob;
  #drained: BlockNode | undefined;
  #job: BackupJob | undefined;

  constructor(create: CreateJob) {
    this.#create = create;
  }

  /** The job, from prepare() on. */
  get job(): BackupJob {
    assert(this.#job, "the backup is not prepared");
    return this.#job;
  }

  /** Does all that can fail. Throws CommandError in QEMU's words; then nothing but the drain is left. */
  async prepare(): Promise<void> {
    this.#job = await this.#create(async (source) => {
      this.#drained = source;
      await drainedBegin(source);
    });
  }

  /** Starts the job: running, then paused until clean(). */
  commit(): void {
    this.job.start();
  }

  /** Cancels the job that was not started; does nothing if there is none. */
  async abort(): Promise<void> {
    await this.#job?.cancel({ force: true });
  }

  /** Ends the drain. */
  clean(): void {
    const node = this.#drained;
    this.#drained = undefined;
    if (node) drainedEnd(node);
  }
}

/** blockdev-backup as an action. */
export function backupAction(graph: BlockGraph, args: BackupArgs, options: StartOptions = {}): BackupAction {
  return new BackupAction(async (drain) => {
    const source = graph.lookup(args.device);
    const target = graph.lookup(args.target);
    await drain(source);
    return createBackup(graph, { source, target, args, options });
  });
}

/** drive-backup as an action: makes or opens the target image itself. */
export function driveBackupAction(
  graph: BlockGraph,
  args: DriveBackupArgs,
  options: StartOptions = {},
): BackupAction {
  return new BackupAction(async (drain) => {
    const source = rootNode(graph, args.device);
    await drain(source);
    source.checkBlocked("backup-source");
    const { sync, format, mode = "absolute-paths" } = args;
    const target = await openTargetImage(graph, { source, target: args.target, format, sync, mode });
    try {
      // The target of sync=none shows the moment of the start at once: what was not copied comes from the source.
      if (sync === "none") await graph.setBacking(target, source, Role.cow);
      return await createBackup(graph, { source, target, args, options });
    } finally {
      await graph.release(target);
    }
  });
}

/** blockdev-backup. Throws CommandError in QEMU's words; resolves with the running job. */
export function startBackup(
  graph: BlockGraph,
  args: BackupArgs,
  options: StartOptions = {},
): Promise<BackupJob> {
  return runAlone(graph, backupAction(graph, args, options));
}

/** drive-backup. Throws CommandError in QEMU's words; resolves with the running job. */
export function startDriveBackup(
  graph: BlockGraph,
  args: DriveBackupArgs,
  options: StartOptions = {},
): Promise<BackupJob> {
  return runAlone(graph, driveBackupAction(graph, args, options));
}

/** A transaction of one action; like every transaction it drains everything first. */
async function runAlone(graph: BlockGraph, action: BackupAction): Promise<BackupJob> {
  await graph.drainAll();
  try {
    await action.prepare();
    action.commit();
    return action.job;
  } finally {
    action.clean();
  }
}
