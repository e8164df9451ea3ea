/**
 * Time in Node. A timer keeps the process alive, as it stands for work that somebody waits for (a job between two chunks,
 * a throttled request); a job that is paused by its user has none, so a foreground command holds its process itself.
 *
 * The monotonic clock is process.hrtime(): `performance.now()` has the same, and loads five modules of Node's when it is first asked: a millisecond of
 * every start.
 */
import type { Clock } from "../../base/host.ts";
import { wallClock } from "../../base/wall-clock.ts";

/** Milliseconds since some moment of the past; it never goes back. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/** The longest delay that setTimeout takes, ms; a longer one would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** The clock of this process. */
export const nodeClock: Clock = {
  nowMs: monotonicMs,
  wallMicroseconds: wallClock(() => Date.now(), monotonicMs),
  timer(delayMs, callback) {
    const due = monotonicMs() + delayMs;
    let timeout: NodeJS.Timeout;
    const arm = (): void => {
      const left = Math.ceil(due - monotonicMs());
      timeout = setTimeout(fire, Math.min(Math.max(left, 0), MAX_DELAY_MS));
    };
    // setTimeout may fire a fraction of a millisecond early, and cannot wait longer than its limit.
    const fire = (): void => {
      if (monotonicMs() < due) arm();
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
