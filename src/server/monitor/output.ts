/**
 * The queue of lines on their way to one client. Replies wait for room; events never wait, and a client that falls
 * behind by more than the limit is given up. Invariant: lines leave in the order in which they were pushed.
 */
import { limits } from "../../base/limits.ts";
import { Wakeup } from "../../base/signals.ts";

/** Hands bytes to the transport; resolves when it takes more. */
export type WriteBytes = (bytes: Uint8Array) => Promise<void>;

/** The queue. */
export class OutputQueue {
  readonly #write: WriteBytes;
  readonly #limitBytes: number;
  readonly #onFailure: (reason: Error) => void;
  readonly #moved = new Wakeup();
  readonly #encoder = new TextEncoder();
  #lines: Uint8Array[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #failure: Error | undefined;

  /** `onFailure` is called once: after a failed write, or when the client is too far behind. */
  constructor(options: { write: WriteBytes; onFailure: (reason: Error) => void; limitBytes?: number }) {
    this.#write = options.write;
    this.#onFailure = options.onFailure;
    this.#limitBytes = options.limitBytes ?? limits.maxQmpOutputBytes;
  }

  /** Queues a line. Lines pushed after a failure are dropped. */
  push(line: string): void {
    if (this.#failure) return;
    const bytes = this.#encoder.encode(line);
    // One line may be longer than the limit (a large reply); a backlog may not.
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes.length > this.#limitBytes) {
      return this.#fail(new Error("the client does not read its replies and events"));
    }
    this.#lines.push(bytes);
    this.#waitingBytes += bytes.length;
    if (!this.#isWriting) void this.#run();
  }

  /** Waits until every line has been handed over, or the queue has failed. */
  async flushed(): Promise<void> {
    await this.#moved.until(() => this.#failure !== undefined || this.#waitingBytes === 0);
  }

  /** The client is given up: what it has not taken is dropped, and nobody waits for it any more. */
  end(): void {
    this.#failure ??= new Error("the session has ended");
    this.#lines = [];
    this.#moved.wake();
  }

  async #run(): Promise<void> {
    this.#isWriting = true;
    try {
      for (let next = this.#lines.shift(); next && !this.#failure; next = this.#lines.shift()) {
        await this.#write(next);
        this.#waitingBytes -= next.length;
        this.#moved.wake();
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#isWriting = false;
    }
  }

  #fail(reason: Error): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#lines = [];
    this.#moved.wake();
    this.#onFailure(reason);
  }
}
