/**
 * The monotonic clock. `performance.now()` has the same, and loads five modules of Node's when it is first asked: a millisecond of
 * every start.
 */

/** Milliseconds since some moment of the past; it never goes back. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}
