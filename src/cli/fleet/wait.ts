/** Waiting until jobs of a queue are done, which may forget them meanwhile. */
import { setTimeout } from "node:timers/promises";
import { messageOf } from "../../base/errors.ts";
import type { FleetJob } from "../../fleet/jobs.ts";
import type { FleetQueue } from "../../fleet/queue.ts";

/** How often a submitter that waits looks at the queue. */
export const LOOK_MS = 2000;

/**
 * Resolves when nothing is left to do, or the signal aborts. What the queue has forgotten it is told again: what is done is found done. A
 * queue that does not answer is asked again.
 */
export async function waitForAll(
  queue: Pick<FleetQueue, "submit" | "counts">,
  jobs: readonly FleetJob[],
  {
    signal,
    note,
    everyMs = LOOK_MS,
  }: { signal: AbortSignal; note: (text: string) => void; everyMs?: number },
): Promise<void> {
  let said = "";
  while (!signal.aborted) {
    try {
      // Counted first: what a queue says that has just forgotten all is taken for nothing, since it knows no jobs after that.
      const { queued, running } = await queue.counts();
      const { added } = await queue.submit(jobs);
      if (added > 0) note(`${added} jobs were lost by the queue and are submitted again`);
      else if (queued + running === 0) return;
      said = "";
    } catch (error) {
      const text = messageOf(error);
      if (text !== said) note(`the queue does not answer: ${text}`);
      said = text;
    }
    await setTimeout(everyMs, undefined, { signal }).catch(() => undefined);
  }
}
