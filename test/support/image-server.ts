// An HTTP server for one image, in Node, that does what servers and networks do wrong when a test asks for it.
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { gzipSync } from "node:zlib";

/** What goes wrong. Each is asked for by a name, so that a page can ask too. */
export const faults = [
  "none",
  "ignore-range",
  "wrong-range",
  "short-body",
  "long-body",
  "drop",
  "refuse",
  "status-500",
  "status-404",
  "status-403",
  "gzip",
  "shift",
  "slow",
  "silent",
] as const;
/** One of them. */
export type Fault = (typeof faults)[number];

/** A request as it came. */
export interface SeenRequest {
  url: string;
  range: string | undefined;
  ifMatch: string | undefined;
  authorization?: string;
  cookie?: string;
}

/** The server. Content, version and fault may change while it runs. */
export class ImageServer {
  content: Uint8Array;
  etag: string | null = '"v1"';
  lastModified: string | undefined;
  fault: Fault = "none";
  /** The fault holds for so many requests more, then none does. */
  faultsLeft = Number.POSITIVE_INFINITY;
  /** Other origins may read Content-Range and ETag. */
  exposeHeaders = true;
  /** What is served at other paths, whole. */
  readonly files = new Map<string, Uint8Array>();
  readonly seen: SeenRequest[] = [];
  #port = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  private constructor(content: Uint8Array) {
    this.content = content;
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  static async start(content: Uint8Array, port = 0): Promise<ImageServer> {
    const server = new ImageServer(content);
    await server.listen(port);
    return server;
  }

  /** Listens, after stop() on the same port again. */
  listen(port = this.#port): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", () => {
        this.#port = (this.#server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/disk.img`;
  }

  /** Ends all connections and refuses new ones, as a dead server does; listen() brings it back. */
  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Access-Control-Allow-Headers", "Authorization, If-Match, Range");
    response.setHeader("Cross-Origin-Resource-Policy", "cross-origin");
    if (this.exposeHeaders) response.setHeader("Access-Control-Expose-Headers", "Content-Range, ETag");
    if (request.method === "OPTIONS") return void response.writeHead(204).end();
    const { range, "if-match": ifMatch, authorization, cookie } = request.headers;
    const named = { ...(authorization ? { authorization } : {}), ...(cookie ? { cookie } : {}) };
    this.seen.push({ url: request.url ?? "", range, ifMatch, ...named });
    const fault = this.#takeFault();
    if (fault === "refuse") return void request.socket.destroy();
    if (fault === "silent") return;
    if (fault.startsWith("status-")) return void response.writeHead(Number(fault.slice(7))).end("no");
    const file = this.files.get(request.url ?? "");
    if (file) return void response.writeHead(200, { "Content-Length": file.byteLength }).end(file);
    if (!request.url?.startsWith("/disk.img")) return void response.writeHead(404).end("no");
    this.#serve(response, { range, ifMatch, fault });
  }

  #takeFault(): Fault {
    if (this.fault === "none" || this.faultsLeft <= 0) return "none";
    this.faultsLeft -= 1;
    return this.fault;
  }

  #serve(
    response: ServerResponse,
    { range, ifMatch, fault }: { range: string | undefined; ifMatch: string | undefined; fault: Fault },
  ): void {
    const { content } = this;
    if (this.etag !== null) response.setHeader("ETag", this.etag);
    if (this.lastModified !== undefined) response.setHeader("Last-Modified", this.lastModified);
    if (ifMatch !== undefined && ifMatch !== this.etag) return void response.writeHead(412).end();
    const match = /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
    if (!match || fault === "ignore-range")
      return void response.writeHead(200, { "Content-Length": content.byteLength }).end(content);
    if (fault === "gzip")
      return void response.writeHead(200, { "Content-Encoding": "gzip" }).end(gzipSync(content));
    const start = Number(match[1]);
    if (start >= content.byteLength)
      return void response.writeHead(416, { "Content-Range": `bytes */${content.byteLength}` }).end();
    const last = Math.min(match[2] ? Number(match[2]) : Infinity, content.byteLength - 1);
    this.#sendRange(response, start, last, fault);
  }

  #sendRange(response: ServerResponse, start: number, last: number, fault: Fault): void {
    const { content } = this;
    const shift = fault === "shift" ? 4 : 0;
    const off = fault === "wrong-range" ? 512 : 0;
    const bytes = last + 1 - start;
    let body = content.subarray(start + shift, last + 1 + shift);
    if (body.byteLength < bytes) body = Uint8Array.from({ length: bytes }, (_, i) => body[i] ?? 0);
    const headers = { "Content-Range": `bytes ${start + off}-${last + off}/${content.byteLength}` };
    // Without a length the answer ends where the connection does not: only the body tells.
    if (fault === "short-body")
      return void response.writeHead(206, headers).end(body.subarray(0, bytes >> 1));
    if (fault === "long-body") {
      response.writeHead(206, headers).write(body);
      return void response.end("more");
    }
    response.writeHead(206, { ...headers, "Content-Length": bytes });
    if (fault === "drop") {
      response.write(body.subarray(0, bytes >> 1));
      setTimeout(() => response.destroy(), 20);
      return;
    }
    if (fault === "slow") return void setTimeout(() => response.end(body), 300);
    response.end(body);
  }
}
