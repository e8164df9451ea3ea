// QEMU's own block tests with our programs: every pair of test and format that starts no machine passes, save those of pairs.tsv that
// name a reason (docs/COMPATIBILITY.md). They take an hour one by one, so the runner runs them in parts (docs/TESTING.md).
// BLOCKWRIGHT_IOTESTS="qcow2:020 raw:221" runs these only.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { inShard } from "../support/shard.ts";
import { runPair } from "./run.ts";
import { iotestsSource } from "./source.ts";

interface Pair {
  readonly test: string;
  readonly format: string;
  /** Why it does not pass; absent: it does. */
  readonly reason?: string;
}

const PAIR_TIMEOUT_MS = 25 * 60_000;
const table = readFileSync(join(root, "test", "iotests", "pairs.tsv"), "utf8").trimEnd();
const pairs: Pair[] = table.split("\n").map((line) => {
  const [format = "", test = "", reason] = line.split("\t");
  return { test, format, ...(reason === undefined ? {} : { reason }) };
});
const only = process.env["BLOCKWRIGHT_IOTESTS"]?.split(" ");
const wanted = only
  ? pairs.filter(({ format, test }) => only.includes(`${format}:${test}`))
  : inShard(pairs.filter(({ reason }) => reason === undefined));
const source = iotestsSource();
const folder = mkdtempSync(join(tmpdir(), "bwi-programs-"));

/** A machine that halts at once: Debian's build has no qtest accelerator, and these tests only probe it. */
function haltingMachine(): string {
  const rom = Buffer.alloc(65536, 0xf4);
  rom.set([0xfa, 0xf4, 0xeb, 0xfd], 0xfff0);
  writeFileSync(join(folder, "halt.bin"), rom);
  const program = join(folder, "qemu-system-x86_64");
  const lines = [
    "#!/bin/bash",
    'args=(); for a in "$@"; do [ "$a" = qtest ] && a=tcg; args+=("$a"); done',
    `exec /usr/bin/qemu-system-x86_64 -bios ${join(folder, "halt.bin")} "\${args[@]}"`,
  ];
  writeFileSync(program, `${lines.join("\n")}\n`);
  chmodSync(program, 0o755);
  return program;
}

/** Our programs under QEMU's names, by the variables that `check` reads. */
function programs(): Record<string, string> {
  const shims = join(folder, "shims");
  mkdirSync(shims);
  execFileSync(process.execPath, [join(root, "build", "cli", "main.js"), "shims", shims]);
  return {
    QEMU_IMG_PROG: join(shims, "qemu-img"),
    QEMU_IO_PROG: join(shims, "qemu-io"),
    QSD_PROG: join(shims, "qemu-storage-daemon"),
    QEMU_NBD_PROG: "/usr/bin/qemu-nbd",
    QEMU_PROG: haltingMachine(),
  };
}

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf("missing" in source)(
  `QEMU's own tests${"missing" in source ? `: ${source.missing}` : ""}`,
  () => {
    const path = "path" in source ? source.path : "";
    const tools = "path" in source ? { path, programs: programs(), timeoutMs: PAIR_TIMEOUT_MS } : undefined;

    it.for(wanted)("$format $test", async (pair, { skip }) => {
      if (!tools) return;
      const { state, output } = await runPair(pair, tools);
      if (state === "not run") return skip(output);
      expect(state, output).toBe("pass");
    });
  },
);
