// Limits as object-add's properties: the struct, the single ones over it, and what is refused.
import { expect, it } from "vitest";
import { limitsFromProperties } from "../../../src/block/throttle/config.ts";

it("single properties are over those of the struct", () => {
  expect(
    limitsFromProperties({ limits: { "iops-total": 5, "bps-read": 7 }, "x-iops-total": 9, id: "group" }),
  ).toEqual({ "iops-total": 9, "bps-read": 7 });
  expect(limitsFromProperties({})).toEqual({});
});

it.each([
  [{ limits: 5 }, "Invalid parameter type for 'limits', expected: object"],
  [{ limits: null }, "Invalid parameter type for 'limits', expected: object"],
  [{ limits: { speed: 5 } }, "Parameter 'limits.speed' is unexpected"],
  [{ limits: { "iops-total": "5" } }, "Invalid parameter type for 'limits.iops-total', expected: integer"],
  [{ "x-speed": 5 }, "Parameter 'x-speed' is unexpected"],
  [{ "x-iops-total": 1.5 }, "Invalid parameter type for 'x-iops-total', expected: integer"],
  [{ "x-iops-total": -1 }, "Property values cannot be negative"],
  [
    { "x-iops-total-max-length": 2 ** 32 },
    "x-iops-total-max-length value must be in the range [0, 4294967295]",
  ],
])("%j is refused", (properties, message) => {
  expect(() => limitsFromProperties(properties)).toThrow(message);
});
