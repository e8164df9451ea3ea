// What convert has the host begin before the target is there, and when not.
import { truncateSync, writeFileSync } from "node:fs";
import { afterEach, expect, test, vi } from "vitest";
import { type ConvertFlags, convert } from "../../../src/cli/verbs/convert/run.ts";
import { NodeFiles } from "../../../src/platform/node/files.ts";
import { temporaryDirectory } from "../platform/node/support.ts";

const path = temporaryDirectory();
const LARGE = 2 ** 27;

afterEach(() => vi.restoreAllMocks());

/** How often large copies are announced by a conversion with these options. */
async function announced(source: string, more: Partial<ConvertFlags> = {}): Promise<number> {
  const expecting = vi.spyOn(NodeFiles.prototype, "expectCopies");
  const formats = { format: "raw", targetFormat: "raw" };
  const gate = { policy: "deny", origins: [] } as const;
  expect(await convert([path(source), path("to")], { ...formats, create: true, gate, ...more })).toBe(0);
  const { length } = expecting.mock.calls;
  expecting.mockRestore();
  return length;
}

test("copies of much data are announced, unless they go another way", async () => {
  writeFileSync(path("full"), new Uint8Array(LARGE));
  writeFileSync(path("sparse"), "");
  truncateSync(path("sparse"), LARGE);
  expect(await announced("full")).toBe(1);
  expect(await announced("sparse")).toBe(0);
  expect(await announced("full", { parallel: "1" })).toBe(0);
  expect(await announced("full", { offload: true })).toBe(0);
  expect(await announced("full", { rateLimit: "100G" })).toBe(0);
  expect(await announced("full", { salvage: true })).toBe(0);
});
