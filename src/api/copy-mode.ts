/**
 * A mirror's copy mode while it runs: what QMP has as block-job-change and `actively-synced` since QEMU 9.
 */
import { CommandError } from "../base/errors.ts";
import * as modes from "../job/mirror/copy-mode.ts";
import type { BlockJob } from "../job/core/block-job.ts";
import { MirrorJob } from "../job/mirror/job.ts";
import { optionsOf } from "./options.ts";

/** What of a running mirror can be changed. */
export interface MirrorChanges {
  /** write-blocking: from now on the guest's writes go to both sides. There is no way back (CommandError). */
  copyMode: "background" | "write-blocking";
}

const checkChanges = optionsOf<MirrorChanges>({ copyMode: "MirrorCopyMode" });

/** Changes a mirror or active commit that runs or is ready. CommandError for jobs of other kinds, and in other states. */
export async function changeMirror(job: BlockJob, changes: MirrorChanges): Promise<void> {
  checkChanges(changes);
  if (!(job instanceof MirrorJob)) throw new CommandError("Job type does not support change");
  job.applyVerb("change");
  await modes.changeCopyMode(job, changes.copyMode);
}

/** Whether both sides of a mirror are the same and stay so, since the guest's writes go to both. False for other jobs. */
export function isActivelySynced(job: BlockJob): boolean {
  return job instanceof MirrorJob && modes.isActivelySynced(job);
}
