// A verb that meets a broken invariant has no answer: neither its own statuses nor that of a failure.
import { afterEach, expect, it, vi } from "vitest";
import { AssertionError } from "../../../src/base/assert.ts";
import { brokenText } from "../../../src/cli/broken.ts";
import { Run } from "../../../src/cli/run.ts";

afterEach(() => vi.restoreAllMocks());

it("ends with status 134, and tells name, words and places", async () => {
  let told = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    told += String(text);
    return true;
  });
  const body = (): Promise<number> => Promise.reject(new AssertionError("planted"));
  expect(await new Run({ gate: { policy: "deny", origins: [] } }).carryOut(body, { failure: 2 })).toBe(134);
  expect(told).toMatch(/^blockwright: AssertionError: planted\n {4}at .*broken\.node\.test/);
});

it("tells ten places at most", () => {
  const deep = (depth: number): Error => (depth > 0 ? deep(depth - 1) : new Error("planted"));
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 50;
  const text = brokenText(deep(40));
  Error.stackTraceLimit = before;
  expect(text.split("\n")).toHaveLength(11);
});
