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

/** What is run. */
export interface CopyRun extends CopyFlags {
  readonly kind: "mirror" | "backup";
  /** Format of a target that is there and brought up to date; undefined: probed. */
  readonly updateFormat?: string | undefined;
}

/** Runs one copy in the foreground; resolves with the exit status. */
export async function runCopy(
  names: { source: string; target: string },
  { kind, ...flags }: CopyRun,
  start: StartCopy,
): Promise<number> {
  const { runJobs } = await import("../follow.ts");
  const { openBare } = await import("../images.ts");
  const { keeping } = await import("../checkpoint.ts");
  const copy = async (run: Run, jobs: JobFollower, kept: KeptRun | undefined): Promise<void> => {
    const isUpdate = flags.bitmap !== undefined;
    const source = await openBare(run, names.source, {
      format: flags.sourceFormat,
      nodeName: "source",
      warn: true,
      write: isUpdate && flags.bitmapMode !== "never",
    });
    const target = isUpdate
      ? await openBare(run, names.target, { format: flags.updateFormat, nodeName: "target", write: true })
      : await openMade(run, { source, target: names.target, flags, kept });
    const { signal } = run;
    await jobs.follow(await start(source, target, kept ? { signal, checkpoint: kept.ref } : { signal }));
    await target.close();
    await source.close();
  };
  return runJobs(flags, (run, jobs) =>
    keeping(run, { checkpoint: flags.checkpoint, kind }, (kept) => copy(run, jobs, kept)),
  );
}

/** What is copied, and how. */
interface Copy {
  readonly source: Node;
  readonly target: string;
  readonly flags: CopyFlags;
  readonly kept: KeptRun | undefined;
}

/** Makes the target, which goes again when the copy fails, and opens it. */
async function openMade(run: Run, { source, target: image, flags, kept }: Copy): Promise<Node> {
  const { openDescribed } = await import("../images.ts");
  const { prepareTarget } = await import("../targets.ts");
  const below = source.chain.find((layer, index) => index > 0 && layer.filename !== "");
  const target = await prepareTarget(run, {
    image,
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
  if (kept?.hasTarget) {
    const { freeLeaks } = await import("../checkpoint.ts");
    await freeLeaks(run, target.spec);
  }
  return openDescribed(run, target.spec);
}
