// Node's modules at their first use: what a bundle does with a module it required works, and nothing is loaded before.
import { createRequire } from "node:module";
import os from "node:os";
import type zlib from "node:zlib";
import { expect, it } from "vitest";
import { requireLate } from "../../../../src/platform/node/late-modules.ts";

const load = createRequire(import.meta.url);

/** A `require` that notes what is loaded. */
function noting(): { require: NodeJS.Require; loaded: string[] } {
  const loaded: string[] = [];
  const require = Object.assign((id: string): unknown => {
    loaded.push(id);
    return load(id);
  }, load) as NodeJS.Require;
  return { require: requireLate(require), loaded };
}

it("loads a module when a member is asked for, and once", () => {
  const { require, loaded } = noting();
  const late = require("node:zlib") as typeof zlib;
  expect(loaded).toEqual([]);
  expect(late.deflateRawSync(new Uint8Array(3)).length).toBeGreaterThan(0);
  expect(late.constants.Z_BEST_SPEED).toBe(1);
  expect(require("node:zlib")).toBe(late);
  expect(loaded).toEqual(["node:zlib"]);
});

it("serves an importer's own view of the module, as bundlers make one", () => {
  const { require, loaded } = noting();
  const module = require("node:os") as typeof os;
  const view = Object.create(Object.getPrototypeOf(module) as object, {
    default: { value: module, enumerable: true },
  }) as typeof os & { default: typeof os };
  expect(loaded).toEqual([]);
  expect(view.tmpdir).toBe(os.tmpdir);
  expect(view.default.EOL).toBe("\n");
  expect((view as unknown as Record<string, unknown>)["missing"]).toBeUndefined();
});

it("loads at once what is asked for by itself", () => {
  const { require, loaded } = noting();
  expect(require("node:events")).toBe(load("node:events"));
  expect(loaded).toEqual(["node:events"]);
});
