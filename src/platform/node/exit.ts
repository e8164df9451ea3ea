/** Ending the process, also where calls on files never end. */
import { giveUpStalled, hasStuckCalls } from "./lanes.ts";
import { loadNativeCalls } from "./native.ts";
import { monotonicMs } from "./clock.ts";

/**
 * Ends the process with `status`. process.exit() waits for the threads of Node's pool: where a file was given up whose disk
 * does not answer it would wait for ever, so then the system is asked itself; without native calls the end looks like
 * SIGKILL (status 137 of a shell).
 */
export function endProcess(status: number): never {
  if (!hasStuckCalls()) process.exit(status);
  loadNativeCalls()?.exit(status);
  process.kill(process.pid, "SIGKILL");
  throw new Error("the process goes on after SIGKILL");
}

/** The same at once: nothing that is under way is waited for. */
export function endAtOnce(status: number): never {
  const now = monotonicMs();
  giveUpStalled({ shortMs: now, longMs: now });
  return endProcess(status);
}
