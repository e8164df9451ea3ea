/**
 * What mirror and backup share: opening the source, making and opening the target, and following the job.
 */
import type { BlockJob, Node } from "../../node.ts";
import type { CopyFlags } from "./flags.ts";

/** Starts the job between two open nodes. */
export type StartCopy = (source: Node, target: Node, signal: AbortSignal) => Promise<BlockJob>;

/** Runs one copy in the foreground; resolves with the exit status. */
export async function runCopy(
  names: { source: string; target: string },
  flags: CopyFlags,
  start: StartCopy,
): Promise<number> {
  const { runJobs } = await import("../follow.ts");
  const { openBare, openDescribed } = await import("../images.ts");
  const { prepareTarget } = await import("../targets.ts");
  return runJobs(flags, async (run, jobs) => {
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
      force: flags.force ?? false,
      source,
      backing:
        flags.sync === "top" && below
          ? { filename: below.filename, format: flags.backingFormat ?? below.driver }
          : undefined,
    });
    run.onFailure(() => target.discard());
    const made = await openDescribed(run, target.spec);
    await jobs.follow(await start(source, made, run.signal));
    await made.close();
    await source.close();
  });
}
