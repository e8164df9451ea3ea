/** Ending the process, also where calls on files never end. */
import { giveUpStalled, hasStuckCalls } from "./lanes.ts";
import { loadNativeCalls, nativeIfLoaded } from "./native.ts";
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

/**
 * process.exit() of a program that has done all it had to, its listeners included, but for what it does last: to take down threads, heap
 * and modules, which the system does by itself. Whoever measures Node, or debugs it, gets the whole end.
 */
export function endDone(): never {
  const { NODE_OPTIONS, NODE_V8_COVERAGE } = process.env;
  const isWatched = process.execArgv.length > 0 || !!NODE_OPTIONS || !!NODE_V8_COVERAGE;
  const native = isWatched || hasStuckCalls() ? undefined : nativeIfLoaded();
  if (native) process.on("exit", (status) => native.exit(status));
  process.exit();
}
