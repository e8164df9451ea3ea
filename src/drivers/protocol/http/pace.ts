/**
 * How fast the link to a server is, and what follows: on a slow one pieces are small, and the background has one connection,
 * so that what a guest waits for does not wait long behind what nobody waits for.
 *
 * Invariants: until something has been measured the background begins small; on a fast link all limits are the caller's own.
 */
import type { Clock } from "../../../base/host.ts";
import { KiB } from "../../../base/limits.ts";

/** How long a piece should take, s. */
const PIECE_SECONDS = 4;
/** Below it the background has one connection, bytes per second. */
const SLOW = 256 * KiB;
/** The background's first pieces, bytes. */
const FIRST_BYTES = 256 * KiB;
/** A measurement is made of so much, or of so long. */
const SAMPLE_BYTES = 64 * KiB;
const SAMPLE_MS = 1000;

/** Measures all requests of one disk together. */
export class Pace {
  readonly #clock: Clock;
  #active = 0;
  /** Since when the sample runs, ms; while nothing is asked for it stands. */
  #since = 0;
  #busyMs = 0;
  #bytes = 0;
  #rate: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A request begins. */
  begin(): void {
    if (this.#active === 0) this.#since = this.#clock.nowMs();
    this.#active += 1;
  }

  /** It has ended. */
  end(): void {
    this.#sample();
    this.#active -= 1;
  }

  /** Bytes of an answer came. */
  arrived(bytes: number): void {
    this.#bytes += bytes;
    this.#sample();
  }

  /** Bytes per second of the whole link; undefined: not known yet. */
  get bytesPerSecond(): number | undefined {
    return this.#rate;
  }

  /** Most bytes of a request that begins now, where `most` are allowed. */
  pieceBytes(most: number, background: boolean): number {
    if (this.#rate === undefined) return background ? Math.min(most, FIRST_BYTES) : most;
    return Math.min(most, (this.#rate * PIECE_SECONDS) / (this.#active + 1));
  }

  /** Connections that the background may have, of `most`. */
  backgroundConnections(most: number): number {
    return this.#rate === undefined || this.#rate < SLOW ? 1 : most;
  }

  #sample(): void {
    const now = this.#clock.nowMs();
    this.#busyMs += now - this.#since;
    this.#since = now;
    if (this.#bytes < SAMPLE_BYTES && this.#busyMs < SAMPLE_MS) return;
    const rate = (this.#bytes * 1000) / Math.max(1, this.#busyMs);
    this.#rate = this.#rate === undefined ? rate : (this.#rate + rate) / 2;
    this.#bytes = 0;
    this.#busyMs = 0;
  }
}
