/**
 * A disk that is one resource, read by range requests. Invariant: bytes are handed out only if the answer's head was checked
 * (validate.ts) and its body is as long as it must be, or broke off before that with its connection, and if it comes from the version that the first answer had; once it has changed,
 * every read fails.
 */
import { BlockError, errnoOf } from "../../../base/errors.ts";
import type { HostHttp, HttpResponse } from "../../../base/host.ts";
import type { ContentVersion } from "../../../block/model/contract.ts";
import { ask } from "./account.ts";
import { type Attempt, FinalError } from "./attempts.ts";
import { PieceWriter, discardBody, eachChunk } from "./body.ts";
import type { HttpOptions } from "./options.ts";
import { HTTP_MAX_REQUEST_BYTES } from "./sizes.ts";
import { type Version, badAnswer, checkHead, checkVersion } from "./validate.ts";

/** What is known of the version that is read; ETag and date as far as the server has told them yet. */
export interface SourceFacts {
  etag?: string;
  "last-modified"?: string;
  /** The server has another version now: every read fails with ESTALE. */
  changed: boolean;
}

/** What is to be filled. */
export interface Wanted {
  pieces: readonly Uint8Array[];
  /** So many bytes more have come; they count only if the fetch succeeds or loses its connection. */
  readonly arrived: (bytes: number) => void;
  /** The connection was lost or fell silent; what was right so far, bytes from the beginning, may be kept. */
  readonly lost: (bytes: number) => void;
}

/** Where clusters come from. */
export interface Source {
  readonly facts: SourceFacts;
  /** Bytes; known once it is open. */
  readonly size: number;
  /** Most bytes of one request. */
  readonly maxRequestBytes: number;
  /** Throws ESTALE unless it is this version; what is not known yet is compared with the first answer that tells it. */
  demand(version: ContentVersion): void;
  /** Names a range in messages. */
  describe(start: number): string;
  /** Fills the pieces, which lie one after the other from `start` on within the size. One try. */
  fetch(attempt: Attempt, start: number, wanted: Wanted): Promise<void>;
}

/** Range requests. */
export class RangeSource implements Source {
  readonly maxRequestBytes = HTTP_MAX_REQUEST_BYTES;
  readonly #http: HostHttp;
  readonly #options: HttpOptions;
  readonly #sameOrigin: boolean;
  #version: Version;
  #changed: BlockError | undefined;
  /** The server has answered a range with it. */
  #hasRanges = false;

  constructor(http: HostHttp, options: HttpOptions) {
    this.#http = http;
    this.#options = options;
    this.#sameOrigin = http.base === undefined || new URL(http.base).origin === new URL(options.url).origin;
    this.#version = { total: options.size, etag: options.etag, lastModified: undefined };
  }

  get size(): number {
    return this.#version.total ?? 0;
  }

  get facts(): SourceFacts {
    const { etag, lastModified } = this.#version;
    return {
      ...(etag === undefined ? {} : { etag }),
      ...(lastModified === undefined ? {} : { "last-modified": lastModified }),
      changed: this.#changed !== undefined,
    };
  }

  demand({ size: total, etag, "last-modified": lastModified }: ContentVersion): void {
    this.#version = checkVersion(this.#options.url, { total, etag, lastModified }, this.#version);
  }

  describe(start: number): string {
    return `${this.#options.url} at ${start}`;
  }

  /** Asks for the first bytes, and so for length and version; returns them. One try. */
  async probe(attempt: Attempt, bytes: number): Promise<Uint8Array> {
    const response = await this.#get(attempt, 0, bytes);
    if (response.status === 416 && /^bytes \*\/0$/.test(response.headers.get("content-range") ?? "")) {
      await discardBody(response);
      this.#version = { ...this.#version, total: 0 };
      return new Uint8Array(0);
    }
    const head = new Uint8Array(bytes);
    const wanted = { pieces: [head], arrived: () => undefined, lost: () => undefined };
    await this.#take(attempt, response, { start: 0, end: bytes }, wanted);
    if (this.#version.total !== undefined) return head.subarray(0, this.#version.total);
    throw badAnswer(this.#options.url, "the server tells no length; give the option 'size'");
  }

  async fetch(attempt: Attempt, start: number, into: Wanted): Promise<void> {
    const end = into.pieces.reduce((sum, piece) => sum + piece.byteLength, start);
    const response = await this.#get(attempt, start, end);
    await this.#take(attempt, response, { start, end }, into);
  }

  async #get(attempt: Attempt, start: number, end: number): Promise<HttpResponse> {
    this.#checkUnchanged();
    const { ifMatch } = this.#options;
    const headers: Record<string, string> = { Range: `bytes=${start}-${end - 1}` };
    const { etag } = this.#version;
    const strong = etag !== undefined && etag.startsWith('"');
    // Across origins this header costs a preflight that the server may not answer.
    if (strong && (ifMatch === "on" || (ifMatch === "auto" && this.#sameOrigin))) headers["If-Match"] = etag;
    return ask(this.#http, this.#options, { attempt, headers });
  }

  /** Checks an answer and takes its body into the pieces. */
  async #take(
    attempt: Attempt,
    response: HttpResponse,
    wanted: { start: number; end: number },
    { pieces, arrived, lost }: Wanted,
  ): Promise<void> {
    const { url, size } = this.#options;
    let expected: number;
    try {
      const hidden = size !== undefined && !this.#sameOrigin;
      const { bytes, version } = checkHead(url, response, { wanted, known: this.#version, hidden });
      // Another request may have been answered, by another version, since this one was sent.
      this.#checkUnchanged();
      this.#version = version;
      this.#hasRanges = true;
      expected = bytes;
    } catch (error) {
      await discardBody(response);
      if (errnoOf(error) === "ESTALE") this.#changed ??= error as BlockError;
      // A server that has no ranges sends the whole disk at each try.
      if (response.status === 200 && !this.#hasRanges && error instanceof BlockError)
        throw new FinalError({ code: error.code, op: error.op, message: error.message });
      throw error;
    }
    const writer = new PieceWriter(pieces);
    const take = (chunk: Uint8Array): void => {
      attempt.progress();
      if (writer.bytes + chunk.byteLength > expected)
        throw badAnswer(url, `the answer's body is longer than ${expected} bytes`);
      writer.write(chunk);
      arrived(chunk.byteLength);
    };
    try {
      await eachChunk(response, take);
    } catch (error) {
      // Of an answer that is wrong nothing is kept; of one whose connection went, what came.
      if (!(error instanceof BlockError) || attempt.signal.aborted) {
        this.#checkUnchanged();
        lost(writer.bytes);
      }
      throw error;
    }
    if (writer.bytes < expected)
      throw badAnswer(url, `the answer's body ended at ${writer.bytes} of ${expected} bytes`);
    this.#checkUnchanged();
  }

  #checkUnchanged(): void {
    if (this.#changed) throw this.#changed;
  }
}
