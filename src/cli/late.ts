/**
 * Parts of the program that few runs need, and that need not start at once: they are entries of the library's bundle, whose modules
 * they share, so that no byte of the library is installed twice for them. This is a script of its own beside the program, which has
 * no `import()`.
 */
import type * as Simulator from "../sim.ts";
import type * as Workload from "./verbs/workload/run.ts";

/** The simulator. */
export function loadSimulator(): Promise<typeof Simulator> {
  return import("../sim.ts");
}

/** The verb `workload`. */
export function loadWorkload(): Promise<typeof Workload> {
  return import("./verbs/workload/run.ts");
}
