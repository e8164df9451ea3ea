/** What the package has no types of. */
declare module "@bcoe/v8-coverage" {
  import type { Profiler } from "node:inspector";

  /** Adds up what several runs of one script took; undefined of none. */
  export function mergeScriptCovs(
    scripts: readonly Profiler.ScriptCoverage[],
  ): Profiler.ScriptCoverage | undefined;
}
