/**
 * What jobs on a backing chain share: opening the top of a chain for writing and following the job.
 */
import type { BlockJob, Node } from "../../node.ts";
import type { HowToStart } from "./copy.ts";
import type { ChainFlags } from "./flags.ts";

/** Runs one job on a chain in the foreground; resolves with the exit status. */
export async function runOnChain(
  image: string,
  flags: ChainFlags,
  start: (node: Node, how: HowToStart) => Promise<BlockJob>,
): Promise<number> {
  const { runJobs } = await import("../follow.ts");
  const { describeImage, openBare } = await import("../images.ts");
  const { freeLeaks, keeping } = await import("../checkpoint.ts");
  return runJobs(flags, (run, jobs) =>
    keeping(run, { checkpoint: flags.checkpoint, kind: "stream" }, async (kept) => {
      if (kept?.hasTarget) await freeLeaks(run, await describeImage(run, image, { format: flags.format }));
      const node = await openBare(run, image, { format: flags.format, write: true, nodeName: "image" });
      const { signal } = run;
      await kept?.begin();
      await jobs.follow(await start(node, kept ? { signal, checkpoint: kept.ref } : { signal }));
      await node.close();
    }),
  );
}
