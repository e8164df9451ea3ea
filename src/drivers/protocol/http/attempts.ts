/**
 * Tries a request again until it works, its tries or its time are used up, or the answer is final. Delays double, with
 * jitter. A try that brings nothing for a while is ended.
 *
 * Invariants: only silence counts: whatever comes begins all times anew, however slow the link is. Time in which the program
 * slept (a frozen tab, a closed laptop) is no silence. When it settles, no try is under way any more.
 */
import { type Errno, strerror } from "../../../base/errno.ts";
import { BlockError, rootMessage, blockError } from "../../../base/errors.ts";
import type { Host } from "../../../base/host.ts";
import type { Unanswered } from "../../../block/model/contract.ts";
import { onAbort } from "../../../base/signals.ts";
import { sleep } from "../../../base/sleep.ts";

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 3000;
/** A timer that fires so much later than it was to has slept, ms. */
const ASLEEP_MS = 2000;
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
  /** Something came: the times without progress begin anew. */
  progress(): void;
  /** Something came to stay: the tries begin anew, too. */
  kept(): void;
}

/** An answer that another try does not change, whatever its errno. */
export class FinalError extends BlockError {}

/** What all tries of a request share. */
interface Course {
  /** Since when nothing has come, ms. */
  silentSince: number;
  /** When it is given up unless something comes, ms. */
  due: number;
  tries: number;
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
  /** Requests under way. */
  readonly #courses = new Set<Course>();

  constructor(host: Host, patience: Patience) {
    this.#host = host;
    this.#patience = patience;
  }

  /** Ends all tries; theirs and all later errors are ECANCELED. */
  close(): void {
    this.#closing.abort(new BlockError({ code: "ECANCELED", op: "pread" }));
  }

  /** Ends all tries likewise if nothing has come of one for so long. */
  giveUp({ shortMs }: Unanswered): void {
    const now = this.#host.clock.nowMs();
    if ([...this.#courses].some(({ silentSince }) => now - silentSince >= shortMs)) this.close();
  }

  /** `what` names the request in errors. Rejects with the last try's error. */
  async run<T>(what: string, body: (attempt: Attempt) => Promise<T>): Promise<T> {
    const silentSince = this.#host.clock.nowMs();
    const course: Course = { silentSince, due: silentSince + this.#patience.deadlineMs, tries: 0 };
    this.#courses.add(course);
    try {
      return await this.#until(course, what, body);
    } finally {
      this.#courses.delete(course);
    }
  }

  async #until<T>(course: Course, what: string, body: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { clock, random } = this.#host;
    const { retries, deadlineMs } = this.#patience;
    for (; ; course.tries++) {
      try {
        return await this.#once(course, body);
      } catch (thrown) {
        const error = asBlockError(thrown, what);
        const { tries } = course;
        const delay = Math.min(FIRST_DELAY_MS * 2 ** tries, MAX_DELAY_MS) * (0.5 + random.below(512) / 1024);
        if (FINAL.has(error.code) || error instanceof FinalError || tries >= retries) throw error;
        if (clock.nowMs() > course.due + ASLEEP_MS) course.due = clock.nowMs() + deadlineMs;
        if (clock.nowMs() + delay >= course.due) throw error;
        await sleep(clock, delay, this.#closing.signal);
      }
    }
  }

  async #once<T>(course: Course, body: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { clock } = this.#host;
    const { timeoutMs, deadlineMs } = this.#patience;
    const closing = this.#closing.signal;
    closing.throwIfAborted();
    const controller = new AbortController();
    const end = (): void => controller.abort(closing.reason);
    const forget = onAbort(closing, end);
    const arm = (): (() => void) => {
      const delay = Math.max(0, Math.min(timeoutMs, course.due - clock.nowMs()));
      const at = clock.nowMs() + delay;
      return clock.timer(delay, () => {
        if (clock.nowMs() > at + ASLEEP_MS) return progress();
        controller.abort(blockError("EIO", "pread", "timed out"));
      });
    };
    const progress = (): void => {
      stop();
      course.silentSince = clock.nowMs();
      course.due = course.silentSince + deadlineMs;
      if (!controller.signal.aborted) stop = arm();
    };
    const kept = (): void => {
      course.tries = 0;
    };
    let stop = arm();
    try {
      return await body({ signal: controller.signal, progress, kept });
    } catch (error) {
      throw controller.signal.aborted ? controller.signal.reason : error;
    } finally {
      stop();
      forget();
    }
  }
}
