/**
 * What jobs on a backing chain share: opening the top of a chain for writing and following the job.
 */
import type { BlockJob, Node } from "../../node.ts";
import type { ChainFlags } from "./flags.ts";

/** Runs one job on a chain in the foreground; resolves with the exit status. */
export async function runOnChain(
  image: string,
  flags: ChainFlags,
  start: (node: Node, signal: AbortSignal) => Promise<BlockJob>,
): Promise<number> {
  const { runJobs } = await import("../follow.ts");
  const { openBare } = await import("../images.ts");
  return runJobs(flags, async (run, jobs) => {
    const node = await openBare(run, image, { format: flags.format, write: true, nodeName: "image" });
    await jobs.follow(await start(node, run.signal));
    await node.close();
  });
}
