/**
 * The simulator: stories of a guest, a job, its policies, faults and power cuts from a seed, in virtual time. The program loads it
 * when it is asked for (`blockwright sim`); it is no public entry of the package.
 */
export { GraphError } from "./sim/graph.ts";
export {
  type SimDocument,
  type SimulateOptions,
  type StoryReport,
  failedRun,
  simulate,
} from "./sim/simulate.ts";
