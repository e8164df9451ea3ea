// QEMU's own block tests with our programs: every pair of test and format that starts no machine passes, save those of pairs.tsv that
// name a reason (docs/COMPATIBILITY.md). They take an hour one by one, so the runner runs them in parts (docs/TESTING.md).
// BLOCKWRIGHT_IOTESTS="qcow2:020 raw:221" runs these only.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe } from "vitest";
import { haltingMachine, ourPrograms, pairsOf } from "./programs.ts";
import { testPairs } from "./run.ts";
import { iotestsSource } from "./source.ts";

const source = iotestsSource();
const folder = mkdtempSync(join(tmpdir(), "bwi-programs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf("missing" in source)(
  `QEMU's own tests${"missing" in source ? `: ${source.missing}` : ""}`,
  () => {
    if ("path" in source)
      testPairs(pairsOf("pairs.tsv"), {
        path: source.path,
        programs: ourPrograms(folder, haltingMachine(folder)),
      });
  },
);
