/**
 * A WebSocket as a connection of bytes. Messages are pieces of the stream and mean nothing by themselves, as NBD's and QMP's
 * other transports have none. Source: WHATWG WebSockets; the package ws has the same interface, and can stop reading.
 */
import { BlockError, blockError } from "../base/errors.ts";
import type {
  ConnectOptions,
  HostConnection,
  HostReceiver,
  SocketAddress,
  WebSocketAddress,
} from "../base/host.ts";
import { KiB, MiB } from "../base/limits.ts";
import { onAbort } from "../base/signals.ts";

/** A socket, of the platform or of a package. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  send(data: Uint8Array<ArrayBuffer> | string): void;
  close(): void;
  /** Of the package ws: drops the connection. */
  terminate?(): void;
  /** Of the package ws: reads nothing meanwhile. */
  pause?(): void;
  resume?(): void;
  addEventListener(type: "open" | "close", listener: () => void): void;
  /** Browsers don't say why; ws does. */
  addEventListener(type: "error", listener: (event: { message?: unknown }) => void): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
}

const OPEN = 1;
/** Bytes of one message at most. */
const MESSAGE_BYTES = 256 * KiB;
/** Bytes that may wait in the socket before a writer waits, and that may wait for the reader. */
const MOST_WAITING = MiB;
/** How often a writer looks whether its bytes have gone, ms. */
const LOOK_MS = 2;
/** How long close() waits for the other side's close, ms. */
const GRACE_MS = 2000;

/** The connection over a socket that is open. */
export class WebSocketConnection implements HostConnection {
  readonly incoming: AsyncIterable<Uint8Array>;
  readonly #socket: WebSocketLike;
  readonly #decoder: TextDecoder | undefined;
  readonly #queue: Uint8Array[] = [];
  #receiver: HostReceiver | undefined;
  #queued = 0;
  #isPaused = false;
  #isOver = false;
  #wake: (() => void) | undefined;

  /** `isText`: what is written is UTF-8, and goes out as messages of text. */
  constructor(socket: WebSocketLike, { isText, receiver }: { isText: boolean; receiver?: HostReceiver }) {
    this.#socket = socket;
    this.#receiver = receiver;
    this.#decoder = isText ? new TextDecoder() : undefined;
    this.incoming = { [Symbol.asyncIterator]: () => this.#receive() };
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => this.#take(data));
    socket.addEventListener("close", () => this.#end());
    // What went wrong is told by the close that follows; without a listener ws would throw.
    socket.addEventListener("error", () => undefined);
  }

  async write(bytes: Uint8Array, more?: Uint8Array): Promise<void> {
    this.#send(bytes);
    if (more) this.#send(more);
    while (this.#socket.readyState === OPEN && this.#socket.bufferedAmount > MOST_WAITING)
      await new Promise<void>((resolve) => setTimeout(resolve, LOOK_MS));
    if (this.#socket.readyState !== OPEN) throw blockError("EPIPE", "send");
  }

  abort(): void {
    if (this.#socket.terminate) this.#socket.terminate();
    else this.#socket.close();
    this.#end();
  }

  close(): Promise<void> {
    if (this.#isOver) return Promise.resolve();
    return new Promise((resolve) => {
      const grace = setTimeout(() => this.abort(), GRACE_MS);
      const done = (): void => {
        clearTimeout(grace);
        resolve();
      };
      this.#socket.addEventListener("close", done);
      this.#resume();
      this.#socket.close();
    });
  }

  #send(bytes: Uint8Array): void {
    if (this.#socket.readyState !== OPEN) throw blockError("EPIPE", "send");
    if (this.#decoder) return this.#socket.send(this.#decoder.decode(bytes, { stream: true }));
    for (let at = 0; at < bytes.byteLength; at += MESSAGE_BYTES)
      // The caller's memory is its own again once write() resolves; sockets may still look at theirs then.
      this.#socket.send(new Uint8Array(bytes.subarray(at, at + MESSAGE_BYTES)));
  }

  #take(data: unknown): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : asBytes(data);
    if (this.#receiver) return this.#receiver.take(bytes);
    this.#queue.push(bytes);
    this.#queued += bytes.byteLength;
    if (this.#queued > MOST_WAITING && !this.#isPaused) {
      this.#isPaused = true;
      this.#socket.pause?.();
    }
    this.#wake?.();
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume?.();
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#receiver?.end();
    this.#receiver = undefined;
    this.#wake?.();
  }

  async *#receive(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const bytes = this.#queue.shift();
      if (bytes) {
        this.#queued -= bytes.byteLength;
        if (this.#queued <= MOST_WAITING / 2) this.#resume();
        yield bytes;
      } else if (this.#isOver) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

function asBytes(data: unknown): Uint8Array {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return data instanceof Uint8Array ? data : new Uint8Array(0);
}

/** How a page connects: WebSockets are all that it has. Rejects with ENOTSUP for other addresses and for certificates of one's own. */
export async function connectFromPage(
  address: SocketAddress | WebSocketAddress,
  options?: ConnectOptions,
): Promise<HostConnection> {
  if (address.type !== "websocket") throw unsupported("pages reach servers by WebSocket only");
  if (address.credentials) throw unsupported("in pages certificates are the browser's business");
  return opened(new WebSocket(address.url), options);
}

function unsupported(message: string): BlockError {
  return new BlockError({ code: "ENOTSUP", op: "connect", message });
}

/** Waits until a new socket is open. Rejects with EIO where it does not open, or with the signal's reason. */
export function opened(
  socket: WebSocketLike,
  { receiver, signal }: ConnectOptions = {},
): Promise<HostConnection> {
  const connection = new WebSocketConnection(socket, { isText: false, ...(receiver ? { receiver } : {}) });
  return new Promise((resolve, reject) => {
    const forget = onAbort(signal, () => {
      connection.abort();
      reject(signal!.reason as Error);
    });
    socket.addEventListener("open", () => {
      forget();
      resolve(connection);
    });
    let why = "the server is not there, or refuses: wrong token, or an origin that it does not know";
    socket.addEventListener("error", ({ message }) => {
      if (typeof message === "string" && message !== "") why = message;
    });
    socket.addEventListener("close", () => {
      forget();
      reject(new BlockError({ code: "ECONNREFUSED", op: "connect", message: `WebSocket: ${why}` }));
    });
  });
}
