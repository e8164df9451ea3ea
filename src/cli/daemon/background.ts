/**
 * Going to the background: the daemon starts itself anew, detached, and waits until that one is set up or has failed. The
 * one in the background is told by its environment who started it for that; any other parent with a channel of messages
 * (a Node program that forks the daemon) is none of its business.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { runAsArguments, standIn } from "../program.ts";

/** Holds the process id of the daemon that waits for this one. */
const WAITING = "BLOCKWRIGHT_DAEMON_WAITING";

/**
 * Starts the verb in the background with `args`, and with the descriptors that it is to keep; resolves with the status of this one,
 * rejects if it can't be started.
 */
export function daemonize(
  args: readonly string[],
  name: "daemon" | "machine" | "nbd",
  kept: readonly number[] = [],
): Promise<number> {
  const verb = standIn() ? runAsArguments() : [name];
  const child = spawn(process.execPath, [process.argv[1] ?? "", ...verb, ...args], {
    detached: true,
    stdio: ["ignore", "ignore", "inherit", ...beyond(kept), "ipc"],
    env: { ...process.env, [WAITING]: String(process.pid) },
  });
  return new Promise((resolve, reject) => {
    child.once("message", () => {
      child.disconnect();
      child.unref();
      resolve(0);
    });
    child.once("exit", (code) => resolve(code ?? 1));
    child.once("error", reject);
  });
}

/** What becomes of the descriptors above standard error. */
function beyond(kept: readonly number[]): (number | "ignore")[] {
  const length = Math.max(2, ...kept) - 2;
  return Array.from({ length }, (_, at) => (kept.includes(at + 3) ? at + 3 : "ignore"));
}

/** Whether this process was started by one that waits for it: its standard output goes nowhere. */
export function isInBackground(): boolean {
  return process.send !== undefined && process.env[WAITING] === String(process.ppid);
}

/** Everything is set up. If a daemon waits for that, it may go, and what was shared with it (its standard error) is let go of too. */
export function tellReady(): void {
  const isWaitedFor = isInBackground();
  delete process.env[WAITING];
  if (!process.send || !isWaitedFor) return;
  closeSync(2);
  // The lowest free descriptor: standard error from now on.
  openSync("/dev/null", "w");
  process.send("ready");
}
