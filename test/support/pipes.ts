// Sockets in memory: a listener to which tests connect, with connections that hold as much as a socket would and no more.
import { blockError } from "../../src/base/errors.ts";
import type { HostConnection, HostListener, HostSockets, SocketAddress } from "../../src/base/host.ts";
import { Wakeup } from "../../src/base/signals.ts";

/** What one direction holds before its writer waits. */
const HOLDS_BYTES = 256 * 1024;

/** One direction. */
class Direction {
  readonly pieces: Uint8Array[] = [];
  readonly changes = new Wakeup();
  bytes = 0;
  ended = false;

  async write(piece: Uint8Array): Promise<void> {
    if (this.ended) throw blockError("EPIPE", "send");
    // A copy: whoever writes may use the memory again.
    this.pieces.push(piece.slice());
    this.bytes += piece.byteLength;
    this.changes.wake();
    await this.changes.until(() => this.bytes <= HOLDS_BYTES || this.ended);
    if (this.ended) throw blockError("EPIPE", "send");
  }

  end(): void {
    this.ended = true;
    this.changes.wake();
  }

  async *read(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      await this.changes.until(() => this.pieces.length > 0 || this.ended);
      const piece = this.pieces.shift();
      if (!piece) return;
      this.bytes -= piece.byteLength;
      this.changes.wake();
      yield piece;
    }
  }
}

/** One end of a connection. */
class End implements HostConnection {
  readonly incoming: AsyncIterable<Uint8Array>;
  readonly #in: Direction;
  readonly #out: Direction;

  constructor(receives: Direction, sends: Direction) {
    this.#in = receives;
    this.#out = sends;
    this.incoming = { [Symbol.asyncIterator]: () => receives.read() };
  }

  write(bytes: Uint8Array, more?: Uint8Array): Promise<void> {
    if (!more) return this.#out.write(bytes);
    return this.#out.write(bytes).then(() => this.#out.write(more));
  }

  close(): Promise<void> {
    this.#out.end();
    return Promise.resolve();
  }

  abort(): void {
    this.#in.pieces.length = 0;
    this.#in.end();
    this.#out.end();
  }
}

/** Sockets of which only the listening side is there; tests are the other one. */
export class Pipes implements HostSockets {
  readonly #waiting: HostConnection[] = [];
  readonly #changes = new Wakeup();
  #closed = false;

  /** A new connection, as its client sees it. */
  dial(): HostConnection {
    if (this.#closed) throw blockError("ECONNREFUSED", "connect");
    const [up, down] = [new Direction(), new Direction()];
    this.#waiting.push(new End(up, down));
    this.#changes.wake();
    return new End(down, up);
  }

  connect(): Promise<HostConnection> {
    return Promise.resolve(this.dial());
  }

  listen(_address: SocketAddress): Promise<HostListener> {
    const close = (): Promise<void> => {
      this.#closed = true;
      this.#changes.wake();
      return Promise.resolve();
    };
    return Promise.resolve({ connections: { [Symbol.asyncIterator]: () => this.#accept() }, close });
  }

  async *#accept(): AsyncGenerator<HostConnection, void, undefined> {
    for (;;) {
      await this.#changes.until(() => this.#waiting.length > 0 || this.#closed);
      if (this.#closed) return;
      const next = this.#waiting.shift();
      if (next) yield next;
    }
  }
}
