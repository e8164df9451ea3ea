/**
 * What mirror and backup share: opening the source, making and opening the target, and following the job.
 */
import type { BlockJob, CheckpointRef, Node } from "../../node.ts";
import type { KeptRun } from "../checkpoint.ts";
import type { JobFollower } from "../follow.ts";
import type { Run } from "../run.ts";
import type { CopyFlags } from "./flags.ts";

/** Starts the job between two open nodes. */
export type StartCopy = (source: Node, target: Node, how: HowToStart) => Promise<BlockJob>;

/** What every job is started with. */
export interface HowToStart {
  readonly signal: AbortSignal;
  readonly checkpoint?: CheckpointRef;
}

/** Runs one copy in the foreground; resolves with the exit status. */
export async function runCopy(
  names: { source: string; target: string },
  { kind, ...flags }: CopyFlags & { kind: "mirror" | "backup" },
  start: StartCopy,
): Promise<number> {
  const { runJobs } = await import("../follow.ts");
  const { openBare, openDescribed } = await import("../images.ts");
  const { prepareTarget } = await import("../targets.ts");
  const { freeLeaks, keeping } = await import("../checkpoint.ts");
  const copy = async (run: Run, jobs: JobFollower, kept: KeptRun | undefined): Promise<void> => {
    const source = await openBare(run, names.source, {
      format: flags.sourceFormat,
      nodeName: "source",
      warn: true,
    });
    const below = source.chain.find((layer, index) => index > 0 && layer.filename !== "");
    const target = await prepareTarget(run, {
      image: names.target,
      format: flags.targetFormat,
      size: source.length,
      force: flags.force ?? kept?.wasBegun ?? false,
      isMade: kept?.hasTarget ?? false,
      making: () => kept?.begin(),
      source,
      backing:
        flags.sync === "top" && below
          ? { filename: below.filename, format: flags.backingFormat ?? below.driver }
          : undefined,
    });
    if (!kept) run.onFailure(() => target.discard());
    if (kept?.hasTarget) await freeLeaks(run, target.spec);
    const made = await openDescribed(run, target.spec);
    const { signal } = run;
    await jobs.follow(await start(source, made, kept ? { signal, checkpoint: kept.ref } : { signal }));
    await made.close();
    await source.close();
  };
  return runJobs(flags, (run, jobs) =>
    keeping(run, { checkpoint: flags.checkpoint, kind }, (kept) => copy(run, jobs, kept)),
  );
}
