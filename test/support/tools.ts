// Runs the real tools (qemu-img, qemu-io …) and looks at what is left of images.
import { execFile } from "node:child_process";
import { constants } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * qemu-img measures how fast it makes keys of passphrases, by a clock that counts whole ticks: on a busy machine one try in
 * five sees none, and fails. Then it is asked again.
 */
export function wasTooBusy(output: string): boolean {
  return output.includes("Unable to get accurate CPU usage");
}

/** How often a tool is asked that was too busy: five times in a row were seen to be too few. */
export const TRIES = 50;

/** Runs a tool; resolves with its output whatever its exit code, which is 128 + N, as in a shell, where signal N ended it. */
export async function tool(name: string, ...words: string[]): Promise<{ code: number; output: string }> {
  for (let tries = 1; ; tries++) {
    const outcome = await once(name, words);
    if (tries === TRIES || !wasTooBusy(outcome.output)) return outcome;
  }
}

interface ToolError {
  /** An exit code, or why the tool did not start or was stopped by us. */
  readonly code: number | string | null;
  readonly signal?: NodeJS.Signals | null;
  readonly stdout?: string;
  readonly stderr?: string;
}

async function once(name: string, words: readonly string[]): Promise<{ code: number; output: string }> {
  try {
    const { stdout, stderr } = await run(name, words, { maxBuffer: 2 ** 26 });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const { code, signal, stdout, stderr } = error as ToolError;
    const exit = code === null && signal ? 128 + constants.signals[signal] : code;
    if (typeof exit !== "number") throw error;
    return { code: exit, output: `${stdout ?? ""}${stderr ?? ""}` };
  }
}

/** Runs a tool that must succeed. */
export async function must(name: string, ...words: string[]): Promise<string> {
  const { code, output } = await tool(name, ...words);
  if (code !== 0) throw new Error(`${name} ${words.join(" ")}: exit ${code}\n${output}`);
  return output;
}

/** `qemu-img check` of a qcow2 image: what it says unless it is clean (`leaks`: or has leaks only). */
export async function checkFaults(path: string, leaks: "allowed" | "refused"): Promise<string | undefined> {
  const { code, output } = await tool("qemu-img", "check", "-f", "qcow2", path);
  const good = code === 0 || (code === 3 && leaks === "allowed");
  return good ? undefined : `qemu-img check ${path}: exit ${code}\n${output}`;
}
