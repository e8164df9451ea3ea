/**
 * What comes from one client: taken in the turn in which it comes, and kept only as far as nobody can take it yet.
 *
 * Invariants: of what was not taken there is at most what came by one reading of the socket beyond HELD_BYTES, save where somebody
 * waits for more in one piece; the data of a long write goes to where it belongs without being kept.
 */
import { type Answer, andThen, guarded, isPromise, repeat } from "../../base/answer.ts";
import type { HostConnection, HostReceiver } from "../../base/host.ts";
import { KiB } from "../../base/limits.ts";
import { type Deferred, deferred, Wakeup } from "../../base/signals.ts";
import { Inbox } from "../../wire/nbd/bytes.ts";

/** As much may wait before nothing more is read. */
const HELD_BYTES = 64 * KiB;
/** Less is read together with what follows it. */
const PLACED_BYTES = 64 * KiB;

/** What is to be done after a message was taken, or was not: take the next one, wait for more bytes, nothing. */
export type Next = "again" | "wait" | "over";

/** The receiving side of a connection. */
export class Intake implements HostReceiver {
  readonly inbox = new Inbox();
  readonly #changes = new Wakeup();
  #hold: (isHeld: boolean) => void = () => undefined;
  #isHeld = false;
  /** Somebody can't go on without more. */
  #isWaiting = false;
  #ended = false;
  #stopped = false;
  /** How often something came. */
  #arrivals = 0;
  /** What is left to be filled. */
  #target: Uint8Array | undefined;
  #onArrival: (() => void) | undefined;
  /** A message is being taken. */
  #isRunning = false;

  /** Nothing is taken any more, not even what has come. */
  get isStopped(): boolean {
    return this.#stopped;
  }

  stop(): void {
    this.#stopped = true;
    this.end();
  }

  /** Takes what comes over this connection. */
  listen(connection: HostConnection): void {
    if (connection.receive) {
      this.#hold = (isHeld) => connection.hold?.(isHeld);
      connection.receive(this);
    } else void this.#iterate(connection);
  }

  async #iterate({ incoming }: HostConnection): Promise<void> {
    const changes = new Wakeup();
    this.#hold = () => changes.wake();
    try {
      for await (const bytes of incoming) {
        this.take(bytes);
        await changes.until(() => !this.#isHeld);
        if (this.#ended) return;
      }
    } catch {
      // It ends, however it does.
    }
    this.end();
  }

  /** Nothing is read from here on; `hold` of another connection is used after TLS has begun. Answers what TLS is told of. */
  switchOver(): (connection: HostConnection) => void {
    this.#hold(true);
    this.inbox.clear();
    return (connection) => {
      this.inbox.clear();
      this.#isHeld = false;
      this.#hold = (isHeld) => connection.hold?.(isHeld);
    };
  }

  take(bytes: Uint8Array): void {
    const rest = this.#fillFrom(bytes);
    this.inbox.push(rest);
    this.#arrived();
    // The memory is the connection's again.
    if (rest.byteLength > 0) this.inbox.keep();
    if (!this.#isWaiting && this.inbox.length >= HELD_BYTES) this.#holdBack(true);
  }

  place(): Uint8Array | undefined {
    return (this.#target?.byteLength ?? 0) >= PLACED_BYTES ? this.#target : undefined;
  }

  placed(count: number): void {
    this.#target = this.#target?.subarray(count);
    this.#arrived();
  }

  end(): void {
    this.#ended = true;
    this.#arrived();
  }

  #fillFrom(bytes: Uint8Array): Uint8Array {
    const target = this.#target;
    if (!target) return bytes;
    const count = Math.min(target.byteLength, bytes.byteLength);
    target.set(bytes.subarray(0, count));
    this.#target = target.subarray(count);
    return bytes.subarray(count);
  }

  #arrived(): void {
    this.#arrivals += 1;
    this.#onArrival?.();
    this.#changes.wake();
  }

  #holdBack(isHeld: boolean): void {
    if (this.#isHeld === isHeld) return;
    this.#isHeld = isHeld;
    this.#hold(isHeld);
  }

  /** Waits until more has come. False: none comes any more. */
  async more(): Promise<boolean> {
    const before = this.#arrivals;
    return this.#wait(() => this.#arrivals !== before);
  }

  /** Waits until it is so. False: it will not be. */
  async #wait(isSo: () => boolean): Promise<boolean> {
    if (this.#ended) return false;
    this.#isWaiting = true;
    this.#holdBack(false);
    await this.#changes.until(() => this.#ended || isSo());
    this.#isWaiting = false;
    return !this.#ended;
  }

  /** Fills the buffer. False: the bytes do not come any more. */
  fill(data: Uint8Array): Answer<boolean> {
    const at = this.inbox.takeInto(data);
    return at === data.byteLength ? true : this.#fillLater(data.subarray(at));
  }

  async #fillLater(data: Uint8Array): Promise<boolean> {
    this.#target = data;
    const isFull = (): boolean => this.#target?.byteLength === 0;
    const came = (await this.#wait(isFull)) || isFull();
    this.#target = undefined;
    return came;
  }

  /** Passes over so many bytes. False: they do not come any more. */
  pass(bytes: number): Answer<boolean> {
    let left = bytes - this.inbox.skip(bytes);
    if (left === 0) return true;
    return andThen(
      repeat(() =>
        andThen(this.more(), (came) => {
          left -= this.inbox.skip(left);
          return came && left > 0;
        }),
      ),
      () => left === 0,
    );
  }

  /**
   * Calls `next` for each message, at once where it can be. Resolves after "over", or when nothing more comes; rejects with what it
   * fails with.
   */
  async serve(next: () => Answer<Next>): Promise<void> {
    const over = deferred();
    this.#onArrival = () => this.#run(next, over);
    this.#run(next, over);
    await over.promise.finally(() => (this.#onArrival = undefined));
  }

  #run(next: () => Answer<Next>, over: Deferred<void>): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    const before = this.#arrivals;
    const settle = (last: Next): void => {
      this.#isRunning = false;
      if (last === "over") over.resolve();
      else if (before !== this.#arrivals) this.#run(next, over);
      else if (this.#ended) over.resolve();
      else this.#holdBack(false);
    };
    const answer = guarded(() => lastOf(next));
    if (!isPromise(answer)) return settle(answer);
    void answer.then(
      (last) => settle(last),
      (error: unknown) => over.reject(error),
    );
  }
}

/** Goes on while the answer is "again"; gives the one after. */
function lastOf(next: () => Answer<Next>): Answer<Next> {
  let last: Next = "wait";
  const going = repeat(() =>
    andThen(next(), (answer) => {
      last = answer;
      return answer === "again";
    }),
  );
  return andThen(going, () => last);
}
