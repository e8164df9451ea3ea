/**
 * The npm package ws, which brings no types: what src/platform/node/web-sockets.ts and the tests use of it.
 */
declare module "ws" {
  import type { IncomingMessage } from "node:http";
  import type { Duplex } from "node:stream";
  import type { WebSocketLike } from "../web-socket.ts";

  interface Options {
    readonly perMessageDeflate?: boolean;
    /** Bytes; 0: no limit. */
    readonly maxPayload?: number;
    readonly headers?: Readonly<Record<string, string>>;
    /** Those of node:tls, for `wss:`. */
    readonly ca?: string;
    readonly cert?: string;
    readonly key?: string;
    readonly passphrase?: string;
    readonly rejectUnauthorized?: boolean;
    readonly handshakeTimeout?: number;
  }

  /** A client's socket, with the interface of browsers beside its own. */
  export class WebSocket implements WebSocketLike {
    constructor(url: string, options?: Options);
    binaryType: string;
    readonly readyState: number;
    readonly bufferedAmount: number;
    send(data: Uint8Array | string, done?: (error?: Error) => void): void;
    close(): void;
    terminate(): void;
    pause(): void;
    resume(): void;
    on(event: "message", listener: (data: Uint8Array) => void): this;
    on(event: "close", listener: () => void): this;
    on(event: "error", listener: (error: Error) => void): this;
    once(event: "open", listener: () => void): this;
    once(event: "error", listener: (error: Error) => void): this;
    addEventListener(type: "open" | "close", listener: () => void): void;
    addEventListener(type: "error", listener: (event: { message?: unknown }) => void): void;
    addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  }

  /** What makes sockets of requests. */
  export class WebSocketServer {
    constructor(options: Options & { readonly noServer: true });
    readonly clients: ReadonlySet<WebSocket>;
    handleUpgrade(
      request: IncomingMessage,
      socket: Duplex,
      head: Uint8Array,
      done: (socket: WebSocket) => void,
    ): void;
  }
}
