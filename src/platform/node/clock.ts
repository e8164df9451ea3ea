/**
 * Time in Node. A timer keeps the process alive, as it stands for work that somebody waits for (a job between two chunks,
 * a throttled request); a job that is paused by its user has none, so a foreground command holds its process itself.
 */
import type { Clock } from "../../base/host.ts";
import { wallClock } from "../../base/wall-clock.ts";

/** The longest delay that setTimeout takes, ms; a longer one would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** The clock of this process. */
export const nodeClock: Clock = {
  nowMs: () => performance.now(),
  wallMicroseconds: wallClock(
    () => Date.now(),
    () => performance.now(),
  ),
  timer(delayMs, callback) {
    const due = performance.now() + delayMs;
    let timeout: NodeJS.Timeout;
    const arm = (): void => {
      const left = Math.ceil(due - performance.now());
      timeout = setTimeout(fire, Math.min(Math.max(left, 0), MAX_DELAY_MS));
    };
    // setTimeout may fire a fraction of a millisecond early, and cannot wait longer than its limit.
    const fire = (): void => {
      if (performance.now() < due) arm();
      else callback();
    };
    arm();
    return () => clearTimeout(timeout);
  },
  turn: () => new Promise((resolve) => setImmediate(resolve)),
};

/** Keeps the process alive until the returned function is called; for foreground commands whose work waits on timers. */
export function keepAlive(): () => void {
  const timeout = setInterval(() => undefined, MAX_DELAY_MS);
  return () => clearInterval(timeout);
}
