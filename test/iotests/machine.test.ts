// QEMU's own block tests that start a machine, with ours as their qemu-system-x86_64: every pair of test and format that the real one
// passes here without migration and FUSE passes, save those of machine-pairs.tsv that name a reason (docs/COMPATIBILITY.md). The runner
// runs them in parts (docs/TESTING.md). BLOCKWRIGHT_IOTESTS="qcow2:030 raw:055" runs these only.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe } from "vitest";
import { ourPrograms, pairsOf } from "./programs.ts";
import { testPairs } from "./run.ts";
import { iotestsSource } from "./source.ts";

const source = iotestsSource();
const folder = mkdtempSync(join(tmpdir(), "bwm-programs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf("missing" in source)(
  `QEMU's own tests of machines${"missing" in source ? `: ${source.missing}` : ""}`,
  () => {
    if ("path" in source)
      testPairs(pairsOf("machine-pairs.tsv"), { path: source.path, programs: ourPrograms(folder) });
  },
);
