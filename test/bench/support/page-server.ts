/**
 * What the benchmarks' pages load: scripts and files, and a disk of any length that nobody stores, whose every 4 KiB begin with their
 * number. Cross-origin isolated, with ranges and a strong ETag. All answers share one link, as slow as is asked for.
 */
import { type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "../../support/root.ts";

/** A link; without a rate there is none. */
export interface Link {
  readonly bytesPerSecond: number;
  /** From the request to the first byte of its answer. */
  readonly latencyMs: number;
}

const PAGE = 4096;
const PIECE = 256 * 1024;
/** What goes at once, so that answers share the link. */
const FRAME = 4096;
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cache-Control": "no-store",
  ETag: '"1"',
};
const pattern = Buffer.from(Uint8Array.from({ length: PIECE }, (_byte, at) => (at * 167 + (at >> 8)) & 255));

/** The bytes of the made disk from a multiple of `PIECE` on. */
function madePiece(at: number): Buffer {
  const piece = Buffer.from(pattern);
  for (let page = 0; page < PIECE; page += PAGE) piece.writeDoubleLE((at + page) / PAGE, page);
  return piece;
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      response.off("drain", end).off("close", end);
      resolve();
    };
    response.on("drain", end).on("close", end);
  });
}

/** A script of test/bench/app, bundled for a page. */
export async function pageScript(name: string): Promise<Uint8Array> {
  const { outputFiles } = await build({
    entryPoints: [join(root, "test", "bench", "app", `${name}.ts`)],
    bundle: true,
    write: false,
    minify: true,
    format: "esm",
    target: "chrome120",
    // v86 is served as it is: what it asks of Node confuses a bundler.
    alias: { v86: "/libv86.mjs" },
    external: ["/libv86.mjs"],
    logLevel: "error",
  });
  return outputFiles[0]!.contents;
}

/** The server. */
export class PageServer implements AsyncDisposable {
  /** Served by path, whole or in ranges. */
  readonly files = new Map<string, Uint8Array>();
  /** Bytes of /disk.img, while no file has that path. */
  diskBytes = 0;
  /** What /disk.img comes by; the scripts do not. */
  link: Link | undefined;
  /** Of /disk.img. */
  sentBytes = 0;
  requests = 0;
  #freeAt = 0;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      const path = (request.url ?? "/").replace(/\?.*/, "");
      void this.#answer({ path, method: request.method ?? "GET", range: request.headers.range }, response);
    });
  }

  static async start(): Promise<PageServer> {
    const server = new PageServer();
    await new Promise<void>((resolve) => {
      server.#server.listen(0, "127.0.0.1", resolve);
    });
    return server;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async #answer(
    { path, method, range }: { path: string; method: string; range: string | undefined },
    response: ServerResponse,
  ): Promise<void> {
    const file = this.files.get(path);
    const length = file?.byteLength ?? (path === "/disk.img" ? this.diskBytes : 0);
    if (length === 0) return void response.writeHead(404, HEADERS).end();
    const match = /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
    const from = Number(match?.[1] ?? 0);
    const end = Math.min(length, match?.[2] ? Number(match[2]) + 1 : length);
    const type = path.endsWith("js")
      ? "text/javascript"
      : path.endsWith("wasm")
        ? "application/wasm"
        : "text/html";
    const isDisk = path === "/disk.img";
    if (isDisk && this.link) await sleep(this.link.latencyMs);
    if (isDisk) this.requests += 1;
    response.writeHead(match ? 206 : 200, {
      ...HEADERS,
      "Content-Type": isDisk ? "application/octet-stream" : type,
      "Content-Length": end - from,
      "Accept-Ranges": "bytes",
      ...(match ? { "Content-Range": `bytes ${from}-${end - 1}/${length}` } : {}),
    });
    if (method === "HEAD") return void response.end();
    for (let at = from; at < end && !response.destroyed;) {
      const piece = Math.min(end, at - (at % PIECE) + PIECE) - at;
      const inPiece = at % PIECE;
      const bytes = file
        ? file.subarray(at, at + piece)
        : madePiece(at - inPiece).subarray(inPiece, inPiece + piece);
      await this.#send(response, bytes, isDisk);
      at += piece;
    }
    response.end();
  }

  async #send(response: ServerResponse, bytes: Uint8Array, isDisk: boolean): Promise<void> {
    const { link } = this;
    const frame = isDisk && link ? FRAME : bytes.byteLength;
    for (let at = 0; at < bytes.byteLength && !response.destroyed; at += frame) {
      const part = bytes.subarray(at, at + frame);
      if (isDisk && link) await this.#turn(link, part.byteLength);
      if (isDisk) this.sentBytes += part.byteLength;
      if (!response.write(part)) await drained(response);
    }
  }

  /** Waits until the link has brought so many bytes, after what it has to bring already. */
  async #turn({ bytesPerSecond }: Link, bytes: number): Promise<void> {
    const now = performance.now();
    this.#freeAt = Math.max(now, this.#freeAt) + (bytes * 1000) / bytesPerSecond;
    if (this.#freeAt - now > 1) await sleep(this.#freeAt - now);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}
