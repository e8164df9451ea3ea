/**
 * Changing a mirror's copy mode while it runs (block-job-change), and what its mode comes to. Source: behaviour of QEMU 10.1.
 */
import { CommandError } from "../../base/errors.ts";
import { drainedSection } from "../../block/model/drain.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";
import type { MirrorJob } from "./job.ts";

/**
 * From now on the guest's writes go to both sides. Throws CommandError for the other way, which QEMU has not either. Writes that
 * began before are over first, so that what they change is dirty.
 */
export async function changeCopyMode(job: MirrorJob, mode: TypeOf<"MirrorCopyMode">): Promise<void> {
  const { init, bitmap } = job;
  if (init.writeBlocking === (mode === "write-blocking")) return;
  if (mode !== "write-blocking") throw new CommandError(`Change to copy mode '${mode}' is not implemented`);
  await using _section = await drainedSection(init.filter.node);
  init.writeBlocking = true;
  if (init.top.sink) bitmap.enabled = false;
}

/** Both sides are the same, and stay so: the guest's writes go to both. */
export function isActivelySynced(job: MirrorJob): boolean {
  const isSame = job.bitmap.dirtyBytes === 0 && job.copiesInFlight === 0;
  return job.init.writeBlocking && job.isReady && isSame;
}
