// A Host for tests, in Node and in browsers: virtual time, repeatable randomness, no files. Timers fire only while
// `settle` waits for something, in order of their time, when nothing else has anything left to do.
import { BlockError } from "../../../src/base/errors.ts";
import type { Clock, Host, HostCrypto, HostFiles } from "../../../src/base/host.ts";
import { browserCrypto } from "../../../src/platform/browser/crypto.ts";

interface Timer {
  atMs: number;
  callback: () => void;
}

/** Time that goes forward only when everybody waits for it. */
export class VirtualClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<Timer>();
  /** Work of the platform, which takes time of its own: virtual time stands still meanwhile. */
  readonly #outside = new Set<Promise<unknown>>();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMicroseconds(): number {
    return this.#nowMs * 1000;
  }

  timer(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  turn(): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, 0);
    });
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Work that the platform does in a time of its own; here it takes `tookMs`, whatever it takes there. */
  async outside<T>(work: Promise<T>, tookMs: number): Promise<T> {
    this.#outside.add(work);
    try {
      return await work;
    } finally {
      this.#outside.delete(work);
      this.#nowMs += tookMs;
    }
  }

  /** Lets all that needs no time happen, and what the platform does. */
  async idle(): Promise<void> {
    for (let i = 0; i < 3 || this.#outside.size > 0; i++) await this.turn();
  }

  /** The program sleeps: time goes forward and no timer fires, however due it is. */
  sleep(ms: number): void {
    this.#nowMs += ms;
  }

  /** Goes to the next timer and fires it; false if there is none. */
  async step(): Promise<boolean> {
    await this.idle();
    let next: Timer | undefined;
    for (const timer of this.#timers) if (!next || timer.atMs < next.atMs) next = timer;
    if (!next) return false;
    this.#timers.delete(next);
    this.#nowMs = Math.max(this.#nowMs, next.atMs);
    next.callback();
    return true;
  }

  /** Waits for `promise`, time going forward as needed. Rejects when nothing is left that could settle it. */
  async settle<T>(answer: T | Promise<T>): Promise<T> {
    const promise = Promise.resolve(answer);
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    for (let idle = 0; !settled && idle < 50;) idle = (await this.step()) ? 0 : idle + 1;
    if (!settled) throw new Error("nothing is left to do, but the promise has not settled");
    return promise;
  }
}

function unavailable(): Promise<never> {
  return Promise.reject(new BlockError({ code: "ENOENT", op: "open" }));
}

const files: HostFiles = {
  open: unavailable,
  create: unavailable,
  info: unavailable,
  realPath: unavailable,
  remove: unavailable,
  resolve: (_base, path) => path,
};

/** Rounds of PBKDF2 in a millisecond of virtual time. */
export const ROUNDS_PER_MS = 100;

/** A host in virtual time. Keys are derived at a steady speed: one that measures how fast it can would not end else. */
export class VirtualHost implements Host {
  readonly clock = new VirtualClock();
  readonly files = files;
  readonly codecs = {
    inflateRaw: unavailable,
    deflateRaw: () => Promise.resolve(undefined),
  };
  #seed = 1;
  readonly random = {
    below: (limit: number): number => {
      this.#seed = (Math.imul(this.#seed, 1103515245) + 12345) >>> 0;
      return Math.floor((this.#seed / 2 ** 32) * limit);
    },
  };
  readonly #crypto: HostCrypto = {
    ...browserCrypto,
    randomBytes: (bytes) => Uint8Array.from({ length: bytes }, () => this.random.below(256)),
    pbkdf2: (request) =>
      this.clock.outside(browserCrypto.pbkdf2(request), request.iterations / ROUNDS_PER_MS),
  };
  readonly crypto = (): Promise<HostCrypto> => Promise.resolve(this.#crypto);
}
