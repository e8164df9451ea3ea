/** The requests of a recording, one after the other, and when each is due. */
import type { TraceEntry } from "../model/plan.ts";
import type { Request } from "./requests.ts";

/** The stream. */
export class TraceStream {
  readonly #entries: readonly TraceEntry[];
  #at = 0;

  constructor(entries: readonly TraceEntry[]) {
    this.#entries = entries;
  }

  /** Whether all were given out. */
  get isOver(): boolean {
    return this.#at >= this.#entries.length;
  }

  /** The next one. */
  next(): Request {
    const { operation, offset, bytes } = this.#entries[this.#at++]!;
    return { operation, offset, bytes, fua: false };
  }

  /** When the one that was given out last is due, for a worker that began at `beginNs`; undefined: as soon as there is room. */
  dueNs(beginNs: number): number | undefined {
    const { atNs } = this.#entries[this.#at - 1]!;
    return atNs === undefined ? undefined : beginNs + atNs;
  }
}
