// QEMU's own block tests over NBD: those that know this protocol with their images behind qemu-nbd, the real one and, of formats that
// end in `ours`, ours, and those that start qemu-nbd themselves with ours. All pass, save those of nbd-pairs.tsv that name a reason
// (docs/COMPATIBILITY.md). BLOCKWRIGHT_IOTESTS="raw+nbd:001 qcow2+ours:058" runs these only.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe } from "vitest";
import { haltingMachine, ourPrograms, ourServer, pairsOf } from "./programs.ts";
import { testPairs } from "./run.ts";
import { iotestsSource } from "./source.ts";

const source = iotestsSource();
const folder = mkdtempSync(join(tmpdir(), "bwn-programs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf("missing" in source)(
  `QEMU's own tests over NBD${"missing" in source ? `: ${source.missing}` : ""}`,
  () => {
    if (!("path" in source)) return;
    const programs = ourPrograms(folder, haltingMachine(folder));
    testPairs(pairsOf("nbd-pairs.tsv"), {
      path: source.path,
      programs,
      server: ourServer(folder, join(folder, "shims")),
    });
  },
);
