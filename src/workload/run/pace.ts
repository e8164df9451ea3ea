/**
 * When a worker's requests are meant to begin: by a fixed rate, by a Poisson process, or as soon as there is room. The plan of an
 * open loop does not wait for a device that stalls: what begins late began late, and its response time says so.
 */
import type { Pace } from "../model/plan.ts";
import type { Draws } from "../random/noise.ts";

/** The intended times of one worker. */
export class PacePlan {
  readonly #pace: Pace;
  readonly #draws: Draws;
  readonly #startNs: number;
  /** Requests or bytes planned so far. */
  #planned = 0;
  #nextNs: number;

  constructor(pace: Pace, { draws, startNs }: { draws: Draws; startNs: number }) {
    this.#pace = pace;
    this.#draws = draws;
    this.#startNs = startNs;
    this.#nextNs = startNs + (pace.kind === "poisson" ? this.#gap() : 0);
  }

  /** When the next request, of so many bytes, is meant to begin; undefined: as soon as there is room. */
  next(bytes: number): number | undefined {
    if (this.#pace.kind === "closed") return undefined;
    const at = this.#nextNs;
    if (this.#pace.kind === "poisson") this.#nextNs = at + this.#gap();
    else {
      this.#planned += this.#pace.unit === "bytes" ? bytes : 1;
      // From the start and not from the last one: rounding does not add up.
      this.#nextNs = this.#startNs + Math.round((this.#planned * 1e9) / this.#pace.perSecond);
    }
    return at;
  }

  #gap(): number {
    const { perSecond } = this.#pace as { perSecond: number };
    return Math.round((this.#draws.exponential() * 1e9) / perSecond);
  }
}
