/**
 * The commands that start jobs and those that control them. Commands on jobs wait until no job's end is being carried
 * out, since QEMU takes no command in that stretch. Source: QAPI job and block-core schemas, QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import { startAmend } from "../../../job/create/amend.ts";
import type { BlockJob } from "../../../job/core/block-job.ts";
import { startBackup, startDriveBackup } from "../../../job/backup/backup.ts";
import { startCommit } from "../../../job/commit/commit.ts";
import { startCreate } from "../../../job/create/create.ts";
import { startDriveMirror } from "../../../job/mirror/drive-mirror.ts";
import { changeCopyMode, isActivelySynced } from "../../../job/mirror/copy-mode.ts";
import { MirrorJob } from "../../../job/mirror/job.ts";
import type { Job } from "../../../job/core/job.ts";
import { startMirror } from "../../../job/mirror/mirror.ts";
import { startStream } from "../../../job/stream/stream.ts";
import type { Engine } from "../../../machine/engine.ts";
import type { ReturnOf, TypeOf } from "../../../wire/qapi/index.ts";
import type { CommandContext, CommandHandlers } from "../registry.ts";

type Context = CommandContext<Engine>;
type CopyMode = TypeOf<"MirrorCopyMode">;

async function onJob(
  context: Context,
  id: string,
  verb: (job: Job) => Promise<void> | void,
): Promise<Record<string, never>> {
  await context.engine.jobs.settled();
  await verb(context.engine.jobs.job(id));
  return {};
}

async function onBlockJob(
  context: Context,
  id: string,
  verb: (job: BlockJob) => Promise<void> | void,
): Promise<Record<string, never>> {
  await context.engine.jobs.settled();
  await verb(context.engine.jobs.blockJob(id));
  return {};
}

/** QMP refuses to cancel what has ended. */
function cancel(job: Job): Promise<void> {
  job.applyVerb("cancel");
  return job.cancel({ force: true });
}

async function started(job: Promise<Job> | Job): Promise<Record<string, never>> {
  await job;
  return {};
}

/** Handlers. */
export const jobCommands: CommandHandlers<Engine> = {
  "block-stream": (args, { engine }) => started(startStream(engine.graph, args)),
  "block-commit": (args, { engine }) => started(startCommit(engine.graph, args)),
  "blockdev-mirror": (args, { engine }) => started(startMirror(engine.graph, args)),
  "drive-mirror": (args, { engine }) => started(startDriveMirror(engine.graph, args)),
  "blockdev-backup": (args, { engine }) => started(startBackup(engine.graph, args)),
  "drive-backup": (args, { engine }) => started(startDriveBackup(engine.graph, args)),
  "blockdev-create": (args, { engine }) => started(startCreate(engine.graph, args)),
  "x-blockdev-amend": (args, { engine }) => started(startAmend(engine.graph, args)),

  "job-pause": ({ id }, context) => onJob(context, id, (job) => job.pause()),
  "job-resume": ({ id }, context) => onJob(context, id, (job) => job.resume()),
  "job-cancel": ({ id }, context) => onJob(context, id, cancel),
  "job-complete": ({ id }, context) => onJob(context, id, (job) => job.complete()),
  "job-finalize": ({ id }, context) => onJob(context, id, (job) => job.finalize()),
  "job-dismiss": ({ id }, context) => onJob(context, id, (job) => job.dismiss()),

  "block-job-pause": ({ device }, context) => onBlockJob(context, device, (job) => job.pause()),
  "block-job-resume": ({ device }, context) => onBlockJob(context, device, (job) => job.resume()),
  "block-job-cancel": ({ device, force }, context) =>
    onBlockJob(context, device, (job) => job.blockJobCancel(force ?? false)),
  "block-job-complete": ({ device }, context) => onBlockJob(context, device, (job) => job.complete()),
  "block-job-set-speed": ({ device, speed }, context) =>
    onBlockJob(context, device, (job) => job.setSpeed(Number(speed))),
  "block-job-finalize": ({ id }, context) => onBlockJob(context, id, (job) => job.finalize()),
  "block-job-dismiss": ({ id }, context) => onBlockJob(context, id, (job) => job.dismiss()),

  "query-jobs": async (_args, { engine }) => {
    await engine.jobs.settled();
    return engine.jobs.queryJobs() as ReturnOf<"query-jobs">;
  },
  "query-block-jobs": async (_args, { engine }) => {
    await engine.jobs.settled();
    return engine.jobs.queryBlockJobs() as ReturnOf<"query-block-jobs">;
  },
};

/** Handlers of what newer QEMU has: a level of `--compat`. */
export const newerJobCommands = {
  "block-job-change": (args: { id: string; type: string; "copy-mode": CopyMode }, context: Context) =>
    onBlockJob(context, args.id, (job) => {
      job.applyVerb("change");
      if (!(job instanceof MirrorJob)) throw new CommandError("Job type does not support change");
      return changeCopyMode(job, args["copy-mode"]);
    }),
  "query-block-jobs": async (_args: unknown, { engine }: Context) => {
    await engine.jobs.settled();
    const rows = engine.jobs.jobs.flatMap((job) => {
      const row = job.queryBlock();
      if (row === undefined) return [];
      return [job instanceof MirrorJob ? { ...row, "actively-synced": isActivelySynced(job) } : row];
    });
    return rows as ReturnOf<"query-block-jobs">;
  },
};
