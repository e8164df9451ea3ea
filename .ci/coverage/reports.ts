/** What Node writes of a process (NODE_V8_COVERAGE). */
import type { Profiler } from "node:inspector";

/** A script, and how often its parts were run. */
export type Script = Profiler.ScriptCoverage;

/** The scripts of a report; none of one that its process had not written to the end when it was killed. */
export function scriptsOf(report: string): Script[] {
  try {
    return (JSON.parse(report) as { result: Script[] }).result;
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}
