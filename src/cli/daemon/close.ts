/** The end of a daemon's engine, in bounded time: a disk that does not answer must not keep the others from being closed. */
import type { Engine } from "../../node.ts";
import { giveUpStalled } from "../../platform/node/lanes.ts";
import { monotonicMs } from "../../platform/node/clock.ts";

/** How long a disk is waited for that had not answered before the end began, ms. */
const STALLED_MS = 3000;
/** How long one is waited for that something was begun on since, or a flush, ms. */
const LONGEST_MS = 30_000;

/** Closes an engine. Disks that do not answer are given up: their images are not closed in order, all others are. */
export async function closeInTime(engine: Engine): Promise<void> {
  const began = monotonicMs();
  const watch = setInterval(() => {
    const now = monotonicMs();
    const shortMs = Math.min(Math.max(STALLED_MS, now - began), LONGEST_MS);
    giveUpStalled({ shortMs: now - shortMs, longMs: now - LONGEST_MS });
    for (const { isOpen, driver } of engine.graph.nodes)
      if (isOpen) driver.giveUp?.({ shortMs, longMs: LONGEST_MS });
  }, 200);
  try {
    await engine.close();
  } finally {
    clearInterval(watch);
  }
}
