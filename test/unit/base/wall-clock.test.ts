// The wall clock follows the system's, and is finer than it.
import { expect, test } from "vitest";
import { wallClock } from "../../../src/base/wall-clock.ts";

/** A system whose two clocks are set by hand, ms. */
function system(): { wall: number; monotonic: number; read: () => number } {
  const at = { wall: 1_700_000_000_000, monotonic: 5000.25, read: () => 0 };
  at.read = wallClock(
    () => Math.floor(at.wall),
    () => at.monotonic,
  );
  return at;
}

test("tells microseconds between two ticks of Date", () => {
  const clock = system();
  const first = clock.read();
  clock.monotonic += 0.5;
  clock.wall += 0.5;
  expect(clock.read() - first).toBeGreaterThanOrEqual(499);
  expect(clock.read() - first).toBeLessThanOrEqual(501);
  expect(Math.floor(clock.read() / 1000)).toBe(1_700_000_000_000);
});

test.each([86_400_000, -86_400_000, 3000, -3000, 1, -1])("follows a correction by %d ms", (byMs) => {
  const clock = system();
  clock.read();
  clock.wall += byMs;
  clock.monotonic += 0.01;
  expect(Math.abs(clock.read() / 1000 - clock.wall)).toBeLessThan(1);
  clock.wall += 100;
  clock.monotonic += 100;
  expect(Math.abs(clock.read() / 1000 - clock.wall)).toBeLessThan(1);
});

test("never goes back while nobody corrects the clock, however it drifts", () => {
  for (const drift of [1, 0.99, 1.01]) {
    const clock = system();
    let last = clock.read();
    for (let turn = 0; turn < 5000; turn++) {
      clock.monotonic += 0.13;
      clock.wall += 0.13 * drift;
      const now = clock.read();
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
    expect(Math.abs(last / 1000 - clock.wall)).toBeLessThan(1);
  }
});
