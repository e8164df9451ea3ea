/** What a session of `io` writes to, and in which engine it works. */
import type { Engine } from "../../../node.ts";

/** Where a session works: a run of the verb, or a machine's monitor. */
export interface IoConsole {
  readonly engine: Engine;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Writes to stdout. */
  print(text: string): void;
  /** Tells of what went wrong. */
  note(text: string): void;
}
