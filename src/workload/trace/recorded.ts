/** A request as it stands in a recording, whatever the recording is written in. */
import type { TraceEntry } from "../model/plan.ts";

/** The request, and the file or device it went to. */
export interface Recorded extends TraceEntry {
  readonly file: string;
}
