/**
 * The wall clock in microseconds, out of a platform's two clocks: Date has milliseconds and follows the system's clock when
 * that is corrected (NTP, a resumed machine, a person); performance.now() is finer and knows of no correction. Invariant: a
 * reading lies within the millisecond that Date shows, and between two corrections none is before the one before it.
 */

/** A reader of the wall clock, microseconds since 1970. `wallMs` is Date.now(), `monotonicMs` performance.now(). */
export function wallClock(wallMs: () => number, monotonicMs: () => number): () => number {
  let originMs = wallMs() - monotonicMs();
  return () => {
    const now = monotonicMs();
    const wall = wallMs();
    // What lies outside of Date's millisecond is drift, or a correction: the nearest reading within it is taken.
    originMs = Math.min(Math.max(originMs, wall - now), wall + LAST_OF_MILLISECOND - now);
    return Math.floor((originMs + now) * 1000);
  };
}

/** The last microsecond of a millisecond, with room for rounding, ms. */
const LAST_OF_MILLISECOND = 0.9995;
