// Which options of an open image stay beside changed ones, and what `-o` says of values before an image is looked at.
import { expect, test } from "vitest";
import { createOptions } from "../../../../../src/drivers/format/qcow2/features/create-options.ts";
import { keptOptions } from "../../../../../src/drivers/format/qcow2/features/reopen.ts";

const now = { driver: "qcow2", "l2-cache-size": 1, "cache-clean-interval": 2 };

test("a total size of the caches takes the place of single ones, and two single ones that of a total", () => {
  expect(keptOptions(now, { "cache-size": 9 })).toEqual({ driver: "qcow2", "cache-clean-interval": 2 });
  expect(keptOptions(now, {})).toEqual(now);
  expect(keptOptions(now, { "lazy-refcounts": true })).toEqual(now);
  const total = { driver: "qcow2", "cache-size": 9, "l2-cache-size": 1 };
  expect(keptOptions(total, { "l2-cache-size": 2 })).toEqual(total);
  expect(keptOptions(total, { "refcount-cache-size": 2 })).toEqual({ driver: "qcow2", "l2-cache-size": 1 });
});

test("values that there are not are refused where the real program refuses them", () => {
  const refusal = (name: string, value: string, use: "create" | "measure" | "amend") =>
    createOptions.find((option) => option.name === name)!.refusal?.(value, use);
  expect(refusal("preallocation", "frob", "measure")).toBe("invalid parameter value: frob");
  expect([refusal("preallocation", "full", "measure"), refusal("preallocation", "frob", "create")]).toEqual([
    ...[undefined, undefined],
  ]);
  expect(refusal("compat", "0.11", "measure")).toBe("Invalid compatibility level: '0.11'");
  expect(refusal("compat", "v3", "measure")).toBe("Invalid compatibility level: 'v3'");
  expect(refusal("compat", "0.11", "amend")).toBe("Unknown compatibility level 0.11");
  expect([
    ...[
      refusal("compat", "v3", "amend"),
      refusal("compat", "1.1", "measure"),
      refusal("compat", "1", "create"),
    ],
  ]).toEqual([undefined, undefined, undefined]);
});
