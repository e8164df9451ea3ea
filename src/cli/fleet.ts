/**
 * The script of the verb `fleet`, and of the threads that it starts: it is not in the program's own, which is read at every start,
 * and takes the engine from the library's bundle beside it.
 */
import type { FleetAction, FleetFlags } from "./verbs/fleet/flags.ts";
import { runFleet } from "./fleet/run.ts";
import { serveThread } from "./fleet/thread.ts";

serveThread();

/** Carries the verb out; resolves with the exit status. */
export function fleet(action: FleetAction, words: readonly string[], flags: FleetFlags): Promise<number> {
  return runFleet(action, words, flags);
}
