// A folder as any web host serves it: below a path of its own, with Range, HEAD and strong ETags; nothing else plays along.
import { existsSync, readFileSync, statSync } from "node:fs";
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

const PREFIX = "/some/where/";
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
};

const ISOLATION = [
  ["Cross-Origin-Opener-Policy", "same-origin"],
  ["Cross-Origin-Embedder-Policy", "require-corp"],
] as const;

/** The host. */
export class Site implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** With `isIsolated` its pages are cross-origin isolated, and have shared memory. */
  static async serve(folder: string, { isIsolated = false } = {}): Promise<Site> {
    const server = createServer((request, response) => {
      if (isIsolated) for (const [name, value] of ISOLATION) response.setHeader(name, value);
      answer(folder, request, response);
    });
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    return new Site(server);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}${PREFIX}`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}

function answer(folder: string, request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  const name = pathname.startsWith(PREFIX) ? normalize(pathname.slice(PREFIX.length) || "index.html") : "..";
  const file = join(folder, name);
  const isKnown = !name.startsWith("..") && existsSync(file) && statSync(file).isFile();
  if (!isKnown || (request.method !== "GET" && request.method !== "HEAD"))
    return void response.writeHead(isKnown ? 405 : 404).end();
  const body = readFileSync(file);
  const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", etag: '"1"' };
  const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const from = Number(match?.[1] ?? 0);
  const part = body.subarray(from, match?.[2] ? Number(match[2]) + 1 : undefined);
  const range = match ? { "content-range": `bytes ${from}-${from + part.length - 1}/${body.length}` } : {};
  response.writeHead(match ? 206 : 200, { ...headers, ...range, "content-length": part.length });
  response.end(request.method === "HEAD" ? undefined : part);
}
