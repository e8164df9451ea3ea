/** How a fleet stands, for those who look again and again: the queue is asked as often as it can answer easily. */
import type { FleetCounts, FleetQueue, JobRow, JobState } from "./queue.ts";

/** What is shown of a fleet. */
export interface FleetSight {
  /** When the queue was asked, ms since 1970. */
  readonly atMs: number;
  readonly counts: FleetCounts;
  /** Bytes that all jobs have moved that the queue knows. */
  readonly movedBytes: number;
  /** The first of each. */
  readonly running: readonly JobRow[];
  readonly failed: readonly JobRow[];
  readonly queued: readonly JobRow[];
}

/** Jobs of a state that are shown. */
export const MOST_SHOWN = 200;
/** What was asked is told again for so long, ms; and for so many times as long as the question took. */
const FRESH_MS = 1000;
const FRESH_TIMES = 10;

interface Seen {
  readonly untilMs: number;
  readonly sight: FleetSight;
  readonly rows: readonly JobRow[];
}

/** The board. */
export class FleetBoard {
  readonly #queue: Pick<FleetQueue, "counts" | "rows">;
  readonly #nowMs: () => number;
  #seen: Seen | undefined;
  #asking: Promise<Seen> | undefined;

  /** `nowMs`: the time since 1970. */
  constructor(queue: Pick<FleetQueue, "counts" | "rows">, nowMs: () => number) {
    this.#queue = queue;
    this.#nowMs = nowMs;
  }

  /** Rejects where the queue does not answer. */
  async sight(): Promise<FleetSight> {
    return (await this.#look()).sight;
  }

  /** All jobs, and how many stand where. Rejects where the queue does not answer. */
  async all(): Promise<{ counts: FleetCounts; rows: readonly JobRow[] }> {
    const { sight, rows } = await this.#look();
    return { counts: sight.counts, rows };
  }

  #look(): Promise<Seen> {
    if (this.#seen && this.#nowMs() < this.#seen.untilMs) return Promise.resolve(this.#seen);
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask(): Promise<Seen> {
    const atMs = this.#nowMs();
    const counts = await this.#queue.counts();
    const rows = await this.#queue.rows();
    const first = (wanted: JobState): JobRow[] =>
      rows.filter(({ state }) => state === wanted).slice(0, MOST_SHOWN);
    const movedBytes = rows.reduce((sum, { bytes }) => sum + bytes, 0);
    const now = this.#nowMs();
    this.#seen = {
      untilMs: now + Math.max(FRESH_MS, FRESH_TIMES * (now - atMs)),
      sight: {
        ...{ atMs, counts, movedBytes },
        ...{ running: first("running"), failed: first("failed"), queued: first("queued") },
      },
      rows,
    };
    return this.#seen;
  }
}
