// A run of the program that stands still while something happens to what it works on.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { until } from "../../support/until.ts";
import { cli, type Done } from "./running-machine.ts";

const ended = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/**
 * Runs a line, and stops it where `isThere` while `meanwhile` happens. Undefined: it was done before it stood.
 */
export async function stoppedRun({
  cwd,
  line,
  isThere,
  meanwhile,
}: {
  cwd: string;
  line: string;
  isThere: () => boolean;
  meanwhile: () => void;
}): Promise<Done | undefined> {
  const child = spawn(process.execPath, [cli, ...line.split(" ")], { cwd });
  const said = { stdout: "", stderr: "" };
  child.stdout.on("data", (text: Buffer) => (said.stdout += text.toString()));
  child.stderr.on("data", (text: Buffer) => (said.stderr += text.toString()));
  const closed = once(child, "close") as Promise<[number | null]>;
  await until(line, () => isThere() || ended(child));
  child.kill("SIGSTOP");
  await until("it stands", () => ended(child) || / T /.test(readFileSync(`/proc/${child.pid}/stat`, "utf8")));
  const isInTime = isThere() && !ended(child);
  if (isInTime) meanwhile();
  child.kill("SIGCONT");
  const [status] = await closed;
  return isInTime ? { status, ...said } : undefined;
}
