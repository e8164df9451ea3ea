/**
 * Tries a request again until it works, its tries or its time are used up, or the answer is final. Delays double, with
 * jitter. A try that brings nothing for a while is ended. Invariant: when it settles, no try is under way any more.
 */
import { type Errno, strerror } from "../../../base/errno.ts";
import { BlockError, rootMessage } from "../../../base/errors.ts";
import type { Host } from "../../../base/host.ts";
import { onAbort } from "../../../base/signals.ts";
import { sleep } from "../../../base/sleep.ts";

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 3000;
/** Answers that another try does not change. */
const FINAL: ReadonlySet<Errno> = new Set([
  "ENOENT",
  "EACCES",
  "ESTALE",
  "ENOTSUP",
  "EINVAL",
  "EFBIG",
  "ECANCELED",
]);

/** How long and how often. */
export interface Patience {
  timeoutMs: number;
  deadlineMs: number;
  retries: number;
}

/** One try. */
export interface Attempt {
  readonly signal: AbortSignal;
  /** Something came: the time without progress begins anew. */
  progress(): void;
}

/** Whatever a try threw, as a BlockError; a platform's own error is a lost connection. */
function asBlockError(error: unknown, what: string): BlockError {
  if (error instanceof BlockError) return error;
  const message = `${what}: ${strerror("EIO")} (${rootMessage(error)})`;
  return new BlockError({ code: "EIO", op: "pread", message, cause: error });
}

/** Runs requests with patience; one for each disk. */
export class Attempts {
  readonly #host: Host;
  readonly #patience: Patience;
  readonly #closing = new AbortController();

  constructor(host: Host, patience: Patience) {
    this.#host = host;
    this.#patience = patience;
  }

  /** Ends all tries; theirs and all later errors are ECANCELED. */
  close(): void {
    this.#closing.abort(new BlockError({ code: "ECANCELED", op: "pread" }));
  }

  /** `what` names the request in errors. Rejects with the last try's error. */
  async run<T>(what: string, body: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { clock, random } = this.#host;
    const { retries, deadlineMs } = this.#patience;
    const due = clock.nowMs() + deadlineMs;
    for (let tries = 0; ; tries++) {
      try {
        return await this.#once(due, body);
      } catch (thrown) {
        const error = asBlockError(thrown, what);
        const delay = Math.min(FIRST_DELAY_MS * 2 ** tries, MAX_DELAY_MS) * (0.5 + random.below(512) / 1024);
        if (FINAL.has(error.code) || tries >= retries || clock.nowMs() + delay >= due) throw error;
        await sleep(clock, delay, this.#closing.signal);
      }
    }
  }

  async #once<T>(due: number, body: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { clock } = this.#host;
    const { timeoutMs } = this.#patience;
    const closing = this.#closing.signal;
    closing.throwIfAborted();
    const controller = new AbortController();
    const end = (): void => controller.abort(closing.reason);
    const late = (): void =>
      controller.abort(new BlockError({ code: "EIO", op: "pread", message: "timed out" }));
    const forget = onAbort(closing, end);
    let stop = clock.timer(Math.min(timeoutMs, due - clock.nowMs()), late);
    const progress = (): void => {
      stop();
      if (!controller.signal.aborted)
        stop = clock.timer(Math.max(0, Math.min(timeoutMs, due - clock.nowMs())), late);
    };
    try {
      return await body({ signal: controller.signal, progress });
    } catch (error) {
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      stop();
      forget();
    }
  }
}
