/**
 * The progress of a foreground job: one line that is drawn again and again on a terminal, and the numbers behind it.
 */
import type { BlockJob } from "../node.ts";
import { PercentLine } from "./percent.ts";
import { formatBytes, formatRate, formatSeconds } from "./units.ts";

/** What is shown of a job. */
export interface JobView {
  readonly type: string;
  readonly status: string;
  /** Bytes done and bytes in all, as far as they are known. */
  readonly offset: number;
  readonly length: number;
}

/** Rates are means over this long. */
const WINDOW_MS = 3000;

/** Watches how a job gets on. */
export class RateMeter {
  readonly #samples: { atMs: number; offset: number }[] = [];

  /** Takes a look. */
  sample(offset: number): void {
    const atMs = performance.now();
    this.#samples.push({ atMs, offset });
    while (this.#samples.length > 2 && atMs - this.#samples[0]!.atMs > WINDOW_MS) this.#samples.shift();
  }

  /** Bytes per second of late. */
  get rate(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || !last || last.atMs <= first.atMs) return 0;
    return Math.max(0, ((last.offset - first.offset) * 1000) / (last.atMs - first.atMs));
  }

  /** Seconds that are left at this rate; undefined where nothing moves. */
  secondsLeft(view: JobView): number | undefined {
    return this.rate > 0 ? (view.length - view.offset) / this.rate : undefined;
  }
}

/** `mirror   42.3%  1.2 GiB of 2.9 GiB  812 MiB/s  ETA 0:03`. */
export function progressLine(view: JobView, meter: RateMeter): string {
  // A job that does not know yet how much there is has done nothing.
  const nothing = view.status === "concluded" || view.status === "null" ? 100 : 0;
  const percent = view.length > 0 ? (100 * view.offset) / view.length : nothing;
  const left = meter.secondsLeft(view);
  const eta = left === undefined ? "ETA -:--" : `ETA ${formatSeconds(left)}`;
  const stalled = view.status === "paused" || view.status === "standby" ? `  ${view.status}` : "";
  const amount = `${formatBytes(view.offset)} of ${formatBytes(view.length)}`;
  return `${view.type} ${percent.toFixed(1).padStart(5)}%  ${amount}  ${formatRate(meter.rate)}  ${eta}${stalled}`;
}

/** Shows how a job gets on, on stderr. */
export interface Display {
  /** Draws the present state, in place of the last one. */
  draw(job: BlockJob, meter: RateMeter): void;
  /** Takes it away, so that other text can be written. */
  clear(): void;
  /** Leaves it as it stands. */
  finish(): void;
  /** An error has stopped the job. */
  stopped?(job: BlockJob, meter: RateMeter): void;
}

/** One line. */
export class ProgressBar implements Display {
  readonly #enabled: boolean;
  #drawn = false;

  constructor(enabled: boolean) {
    this.#enabled = enabled;
  }

  draw(job: BlockJob, meter: RateMeter): void {
    if (!this.#enabled) return;
    const width = process.stderr.columns || 80;
    process.stderr.write(`\r\u001B[K${progressLine(job, meter).slice(0, width - 1)}`);
    this.#drawn = true;
  }

  clear(): void {
    if (this.#drawn) process.stderr.write("\r\u001B[K");
    this.#drawn = false;
  }

  finish(): void {
    if (this.#drawn) process.stderr.write("\n");
    this.#drawn = false;
  }
}

/** A job's progress as a PercentLine. */
export class PercentDisplay implements Display {
  readonly line = new PercentLine();

  draw(job: BlockJob): void {
    this.line.show(job.length > 0 ? (100 * job.offset) / job.length : 0);
  }

  clear(): void {
    // What is written to stderr does not touch it.
  }

  finish(): void {
    // Whoever began it ends it.
  }
}
