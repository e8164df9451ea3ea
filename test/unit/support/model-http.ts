// A web server in memory, in the time of its Host: one resource, and for each request what its dice say goes wrong. One
// seed, one sequence.
import type { Clock, HostHttp, HttpRequest, HttpResponse } from "../../../src/base/host.ts";
import { randomness } from "../../support/random.ts";

/** What may go wrong with a request. */
export const modelFaults = [
  "refuse",
  "reset",
  "short",
  "long",
  "status-500",
  "status-503",
  "ignore-range",
  "other-range",
  "silent",
  "shift",
] as const;
/** One of them. */
export type ModelFault = (typeof modelFaults)[number];

const CHUNK = 5000;

function answer(
  status: number,
  headers: Record<string, string>,
  body: ReadableStream<Uint8Array>,
): HttpResponse {
  return { status, headers: { get: (name) => headers[name.toLowerCase()] ?? null }, body };
}

/** Chunks, and then the end or an error. */
function bodyOf(bytes: Uint8Array, error?: Error): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at < bytes.byteLength) controller.enqueue(bytes.slice(at, (at += CHUNK)));
      else if (error) controller.error(error);
      else controller.close();
    },
  });
}

/** The server. */
export class ModelHttp implements HostHttp {
  content: Uint8Array;
  etag = '"v1"';
  /** One in so many requests goes wrong; 0: none does. */
  faultEvery = 0;
  /** How long answers may take; 0: none waits. */
  mostDelayMs = 400;
  /** Which faults there are. */
  faults: readonly ModelFault[] = modelFaults;
  /** What came of each request. */
  readonly log: string[] = [];
  readonly #clock: Clock;
  readonly #random: (limit: number) => number;

  constructor(content: Uint8Array, clock: Clock, seed = 1) {
    this.content = content;
    this.#clock = clock;
    this.#random = randomness(seed);
  }

  async get(_url: string, { headers, signal }: HttpRequest): Promise<HttpResponse> {
    const { Range: range = "", "If-Match": ifMatch } = headers;
    const fault = this.#draw();
    this.log.push(`${range} ${fault ?? "well"} ${this.etag}`);
    if (fault === "silent") return this.#silence(signal);
    if (this.mostDelayMs > 0) await this.#wait(this.#random(this.mostDelayMs), signal);
    if (fault === "refuse") throw new TypeError("fetch failed");
    if (fault?.startsWith("status-")) return answer(Number(fault.slice(7)), {}, bodyOf(new Uint8Array(3)));
    if (ifMatch !== undefined && ifMatch !== this.etag) return answer(412, {}, bodyOf(new Uint8Array(0)));
    const etag = { etag: this.etag };
    if (fault === "ignore-range") return answer(200, etag, bodyOf(this.content));
    return this.#range(range, etag, fault);
  }

  #draw(): ModelFault | undefined {
    if (this.faultEvery === 0 || this.#random(this.faultEvery) > 0) return undefined;
    return this.faults[this.#random(this.faults.length)];
  }

  #range(range: string, etag: Record<string, string>, fault: ModelFault | undefined): HttpResponse {
    const [start = 0, wanted = 0] = /(\d+)-(\d+)/.exec(range)!.slice(1).map(Number);
    const { content } = this;
    const last = Math.min(wanted, content.byteLength - 1);
    const off = fault === "other-range" ? 512 : 0;
    const head = { ...etag, "content-range": `bytes ${start + off}-${last + off}/${content.byteLength}` };
    const shift = fault === "shift" ? 4 : 0;
    const right = content.slice(start, last + 1);
    const bytes = shift ? right.map((_, i) => content[(start + i + shift) % content.byteLength]!) : right;
    const half = bytes.subarray(0, bytes.byteLength >> 1);
    if (fault === "short") return answer(206, head, bodyOf(half));
    if (fault === "reset") return answer(206, head, bodyOf(half, new TypeError("terminated")));
    if (fault === "long") return answer(206, head, bodyOf(Uint8Array.of(...bytes.subarray(0, 1), ...bytes)));
    return answer(206, head, bodyOf(bytes));
  }

  #silence(signal: AbortSignal): Promise<never> {
    return new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
  }

  #wait(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = this.#clock.timer(delayMs, resolve);
      signal.addEventListener("abort", () => (stop(), reject(signal.reason as Error)), { once: true });
    });
  }
}
