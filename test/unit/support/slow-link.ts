// A web server in memory at the end of a slow link, in the time of its Host: all answers share its bytes per second, each comes
// after its latency. It can break, hang, and be looked at.
import type { Clock, HostHttp, HttpRequest, HttpResponse } from "../../../src/base/host.ts";

const CHUNK = 16_384;

/** The server and its link. */
export class SlowLink implements HostHttp {
  readonly content: Uint8Array;
  bytesPerSecond: number;
  latencyMs: number;
  /** It sends whole files only. */
  ignoresRanges = false;
  /** After so many bytes of an answer the connection breaks, once for each. */
  readonly breaks: number[] = [];
  /** Bytes that have come over the link. */
  sentBytes = 0;
  readonly asked: { start: number; end: number; atMs: number }[] = [];
  readonly #clock: Clock;
  /** When the link is free again, ms. */
  #freeAtMs = 0;

  constructor(content: Uint8Array, clock: Clock, link: { bytesPerSecond: number; latencyMs: number }) {
    this.content = content;
    this.#clock = clock;
    this.bytesPerSecond = link.bytesPerSecond;
    this.latencyMs = link.latencyMs;
  }

  async get(_url: string, { headers, signal }: HttpRequest): Promise<HttpResponse> {
    const { content } = this;
    const [first = 0, last = 0] = /(\d+)-(\d+)/
      .exec(headers["Range"] ?? "")!
      .slice(1)
      .map(Number);
    const [start, end] = this.ignoresRanges
      ? [0, content.byteLength]
      : [first, Math.min(last + 1, content.byteLength)];
    this.asked.push({ start, end, atMs: this.#clock.nowMs() });
    await this.#wait(this.latencyMs, signal);
    const known: Record<string, string> = {
      etag: '"v1"',
      "content-range": `bytes ${start}-${end - 1}/${content.byteLength}`,
    };
    if (this.ignoresRanges) delete known["content-range"];
    const body = this.#body(content.subarray(start, end), signal);
    return {
      status: this.ignoresRanges ? 200 : 206,
      headers: { get: (name) => known[name.toLowerCase()] ?? null },
      body,
    };
  }

  #body(bytes: Uint8Array, signal: AbortSignal): ReadableStream<Uint8Array> {
    const breakAt = this.breaks.shift() ?? Number.POSITIVE_INFINITY;
    let at = 0;
    return new ReadableStream(
      {
        pull: async (controller) => {
          if (at >= bytes.byteLength) return controller.close();
          const chunk = bytes.slice(at, at + CHUNK);
          const now = this.#clock.nowMs();
          this.#freeAtMs = Math.max(now, this.#freeAtMs) + (chunk.byteLength * 1000) / this.bytesPerSecond;
          await this.#wait(this.#freeAtMs - now, signal);
          at += chunk.byteLength;
          this.sentBytes += chunk.byteLength;
          if (at > breakAt) throw new TypeError("terminated");
          controller.enqueue(chunk);
        },
      },
      { highWaterMark: 0 },
    );
  }

  #wait(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const abort = (): void => {
        stop();
        reject(signal.reason as Error);
      };
      const stop = this.#clock.timer(delayMs, () => {
        signal.removeEventListener("abort", abort);
        resolve();
      });
      signal.addEventListener("abort", abort, { once: true });
    });
  }
}
