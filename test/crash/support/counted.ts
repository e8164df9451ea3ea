// A run of our program that can be killed, and what it wrote.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { until } from "../../support/until.ts";
import { program } from "../../support/verb-client.ts";

/** A run. */
export interface CountedRun {
  readonly pid: number;
  /** `written`: bytes that it wrote, told by the system when it has ended; `said`: on both its outputs. */
  readonly ended: Promise<{ code: number | null; written: number; said: string }>;
}

/** Runs the program with these words; resolves when it has begun, and said `ready`. Throws where it ends without that. */
export async function runCounted(words: readonly string[], cwd: string, ready = ""): Promise<CountedRun> {
  const script = '"$@" >&2 & echo $!; wait $!; code=$?; grep wchar /proc/$$/io; exit $code';
  const child = spawn("sh", ["-c", script, "sh", process.execPath, program, ...words], { cwd });
  let [output, said] = ["", ""];
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr.on("data", (data: Buffer) => (said += data.toString()));
  const ended = once(child, "close").then(([code]) => ({
    code: code as number | null,
    written: Number(/wchar: (\d+)/.exec(output)?.[1]),
    said,
  }));
  await until("a run that has begun", () => {
    if (child.exitCode !== null && !said.includes(ready)) throw new Error(`no '${ready}': ${said}`);
    return output.includes("\n") && said.includes(ready);
  });
  return { pid: Number.parseInt(output, 10), ended };
}
