// What goes wrong with a disk in Chromium: no room, another version of the source, a server that shifts its ranges.
import { test } from "vitest";
import { quota, shiftedRanges, staleSource } from "./stories/faults.ts";

test("the quota is used up: the job waits, the guest goes on; with more room it ends", () =>
  quota("chromium"));
test("another version of the source: the job fails, and nothing is mixed", () => staleSource("chromium"));
test("a server that shifts its ranges is caught by the manifest, and what it sent is not kept", () =>
  shiftedRanges("chromium"));
