// The line that shows how far a job is.
import { expect, it } from "vitest";
import { RateMeter, progressLine } from "../../../src/cli/progress.ts";

it.each([
  ["running", 0, 0, "  0.0%"],
  ["created", 0, 0, "  0.0%"],
  ["running", 512, 1024, " 50.0%"],
  ["ready", 1024, 1024, "100.0%"],
  ["concluded", 0, 0, "100.0%"],
  ["null", 0, 0, "100.0%"],
])("of a job that is %s, %i of %i", (status, offset, length, percent) => {
  const line = progressLine({ type: "mirror", status, offset, length }, new RateMeter());
  expect(line.slice(0, 13)).toBe(`mirror ${percent}`);
});
