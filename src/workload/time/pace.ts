/**
 * Time for a run, in whole nanoseconds from its clock's start, and waiting until one of them. On the real clock a timer may be a
 * millisecond late, so the last stretch is waited for in turns of the event loop.
 */
import type { Clock } from "../../base/host.ts";
import { sleep } from "../../base/sleep.ts";

/** A clock to pace requests by. */
export interface Pacer {
  /** Whole nanoseconds. */
  nowNs(): number;
  /** Resolves at that time, or at once where it has passed; rejects with the signal's reason. */
  until(atNs: number, signal?: AbortSignal): Promise<void>;
}

/** How late a timer may be, and how much earlier it is therefore set, ms. */
const LATE_MS = 1.5;

/** The virtual clock, which is never late. */
export function virtualPacer(clock: Clock): Pacer {
  const nowNs = (): number => Math.round(clock.nowMs() * 1e6);
  return {
    nowNs,
    until: (atNs, signal) =>
      atNs <= nowNs() ? Promise.resolve() : sleep(clock, atNs / 1e6 - clock.nowMs(), signal),
  };
}

/** The real clock. */
export function realPacer(clock: Clock): Pacer {
  const startMs = clock.nowMs();
  const nowNs = (): number => Math.round((clock.nowMs() - startMs) * 1e6);
  const until = async (atNs: number, signal?: AbortSignal): Promise<void> => {
    const leftMs = (atNs - nowNs()) / 1e6;
    if (leftMs > 2 * LATE_MS) await sleep(clock, leftMs - LATE_MS, signal);
    while (nowNs() < atNs) {
      signal?.throwIfAborted();
      await clock.turn();
    }
  };
  return { nowNs, until };
}
