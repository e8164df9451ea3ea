/** A script of its own beside the program, which fetches the simulator out of the library's bundle when it is needed. */

import type * as Simulator from "../sim.ts";

/** The simulator. */
export function loadSimulator(): Promise<typeof Simulator> {
  return import("../sim.ts");
}
