// One pair of QEMU's tests: `./check -FORMAT TEST` (of `raw+nbd`: `-raw -nbd`; of `raw+nbd+ours` with our qemu-nbd, too) with our programs under QEMU's names. What the test leaves running is found by
// a mark in its environment and ended.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { inShard } from "../support/shard.ts";
import { HANG_MS } from "../support/until.ts";
import type { Pair } from "./programs.ts";

/** How a pair ended, and what `check` printed. */
interface PairResult {
  readonly state: "pass" | "fail" | "not run" | "time-out";
  readonly output: string;
}

/** What a pair runs with: the folder of qemu-iotests, and the programs by the variables that `check` reads. */
interface PairTools {
  readonly path: string;
  readonly programs: Readonly<Record<string, string>>;
  /** What is different with our qemu-nbd. */
  readonly server?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

const PAIR_TIMEOUT_MS = 2 * HANG_MS;

/**
 * A test for each pair that passes, of this run's part or of those that BLOCKWRIGHT_IOTESTS names. QEMU's tests have limits of seconds and
 * races of their own, which nobody here can mend, so one that fails runs once more; what it said is printed.
 */
export function testPairs(pairs: readonly Pair[], tools: Omit<PairTools, "timeoutMs">): void {
  const only = process.env["BLOCKWRIGHT_IOTESTS"]?.split(" ");
  const wanted = only
    ? pairs.filter(({ format, test }) => only.includes(`${format}:${test}`))
    : inShard(pairs.filter(({ reason }) => reason === undefined));
  it.for(wanted)("$format $test", { timeout: 3 * PAIR_TIMEOUT_MS }, async (pair, { skip }) => {
    const run = (): Promise<PairResult> => runPair(pair, { ...tools, timeoutMs: PAIR_TIMEOUT_MS });
    let { state, output } = await run();
    if (state === "fail") {
      console.log(`${pair.format} ${pair.test} has a second go, since it said:\n${output}`);
      ({ state, output } = await run());
    }
    if (state === "not run") return skip(output);
    expect(state, output).toBe("pass");
  });
}

/** Runs a pair in folders of its own, which are short: tests bind Unix sockets below them. */
async function runPair(
  { test, format }: { test: string; format: string },
  { path, programs, server, timeoutMs }: PairTools,
): Promise<PairResult> {
  const scratch = mkdtempSync(join(tmpdir(), "bwi-"));
  const mark = `IOTEST_RUN=${scratch}`;
  const folders = { TEST_DIR: join(scratch, "t"), SOCK_DIR: join(scratch, "s") };
  for (const folder of Object.values(folders)) mkdirSync(folder);
  const words = format.split("+");
  const own = words.includes("ours") ? server : {};
  const env = { ...process.env, ...programs, ...own, ...folders, IOTEST_RUN: scratch };
  try {
    const options = words.filter((word) => word !== "ours").map((word) => `-${word}`);
    return await check([...options, test], { path, env, timeoutMs });
  } finally {
    endMarked(mark);
    rmSync(scratch, { recursive: true, force: true });
  }
}

function check(
  words: readonly string[],
  { path, env, timeoutMs }: { path: string; env: NodeJS.ProcessEnv; timeoutMs: number },
): Promise<PairResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(path, "check"), words, {
      cwd: path,
      env,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, timeoutMs);
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.on("error", reject);
    child.on("close", () => {
      clearTimeout(limit);
      resolve({ state: late ? "time-out" : stateOf(output), output });
    });
  });
}

/** What the summary of `check` says of its one test. */
function stateOf(output: string): PairResult["state"] {
  if (output.includes("Passed all 1 iotests")) return "pass";
  return output.includes("Passed all 0 iotests") ? "not run" : "fail";
}

/** Ends every process whose environment holds the mark. */
function endMarked(mark: string): void {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
      if (environment.includes(mark)) process.kill(Number(pid), "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
}
