// Servers that say nothing, in a clock of the test's own: who is given up, and who is not.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { answered, goodbye } from "../../../../src/cli/fleet/silence.ts";
import { deferred } from "../../../../src/base/signals.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const never = new Promise<number>(() => undefined);

/** How a question ends: its answer, or the message of its error. */
function ended(asked: Promise<unknown>): Promise<unknown> {
  return asked.catch((error: unknown) => (error as Error).message);
}

it("gives a silent server up after ten seconds, and leaves no timer", async () => {
  const asked = ended(answered(never, () => 7));
  await vi.advanceTimersByTimeAsync(9900);
  expect(vi.getTimerCount()).toBe(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(await asked).toBe("no word from its server for 10 s");
  expect(vi.getTimerCount()).toBe(0);
});

it("waits for one of whom bytes come, however long it takes", async () => {
  const answer = deferred();
  let bytes = 0;
  const asked = answered(
    answer.promise.then(() => "all"),
    () => bytes,
  );
  for (let i = 0; i < 8; i++) {
    await vi.advanceTimersByTimeAsync(9000);
    bytes += 1;
  }
  answer.resolve();
  expect(await asked).toBe("all");
  expect(vi.getTimerCount()).toBe(0);
});

it("tells what the server itself says", async () => {
  expect(await ended(answered(Promise.reject(new Error("refused")), () => 0))).toBe("refused");
  expect(vi.getTimerCount()).toBe(0);
});

it("waits two seconds for a goodbye, and for no error", async () => {
  await goodbye(Promise.reject(new Error("gone")));
  await goodbye(Promise.resolve());
  expect(vi.getTimerCount()).toBe(0);
  const left = goodbye(never);
  await vi.advanceTimersByTimeAsync(2000);
  await left;
});
