/** The requests of a recording, one after the other, and when each is due. Only the next one is held. */
import type { TraceEntry } from "../model/plan.ts";
import type { Request } from "../stream/requests.ts";

/** The stream. */
export class TraceStream {
  readonly #entries: Iterator<TraceEntry>;
  #next: TraceEntry | undefined;
  #last: TraceEntry | undefined;

  constructor(entries: Iterable<TraceEntry>) {
    this.#entries = entries[Symbol.iterator]();
    this.#next = this.#read();
  }

  /** Whether all were given out. */
  get isOver(): boolean {
    return this.#next === undefined;
  }

  /** The next one. */
  next(): Request {
    this.#last = this.#next!;
    this.#next = this.#read();
    const { operation, offset, bytes, fua = false } = this.#last;
    return { operation, offset, bytes, fua };
  }

  /** When the one that was given out last is due, for a worker that began at `beginNs`; undefined: as soon as there is room. */
  dueNs(beginNs: number): number | undefined {
    const { atNs } = this.#last!;
    return atNs === undefined ? undefined : beginNs + atNs;
  }

  /** What the write that was given out last wrote; undefined: the recording does not say. */
  get data(): Uint8Array | undefined {
    return this.#last?.data;
  }

  #read(): TraceEntry | undefined {
    const next = this.#entries.next();
    return next.done ? undefined : next.value;
  }
}
