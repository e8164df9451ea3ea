/**
 * The connections of a listener that nobody has taken yet, for one taker.
 */
import type { HostConnection } from "./host.ts";

/** A queue of them. */
export class ConnectionQueue implements AsyncIterable<HostConnection> {
  #waiting: HostConnection[] = [];
  #wake: (() => void) | undefined;
  #isClosed = false;

  /** One has come. */
  push(connection: HostConnection): void {
    if (this.#isClosed) return void connection.close().catch(() => undefined);
    this.#waiting.push(connection);
    this.#wake?.();
  }

  /** Ends it, and drops those that nobody took. May be called again. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake?.();
    const dropped = this.#waiting.splice(0);
    await Promise.all(dropped.map((connection) => connection.close()));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<HostConnection, void, undefined> {
    while (!this.#isClosed) {
      const connection = this.#waiting.shift();
      if (connection) yield connection;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
