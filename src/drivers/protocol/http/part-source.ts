/**
 * A disk in parts: files `NAME-START-END.EXT` of equal size, as v86's tools/split-image.py names them, the last one
 * padded with zeroes. Parts whose names end in `.zst` are single zstd frames. Each is fetched whole, by a plain GET.
 * Invariant: a part has exactly the part size when it is decoded (the last one may end at the disk's end). Parts are
 * resources of their own, so only a manifest shows that they belong to one version.
 */
import { BlockError, blockError } from "../../../base/errors.ts";
import type { HostCodecs, HostHttp, HttpResponse } from "../../../base/host.ts";
import { MiB } from "../../../base/limits.ts";
import type { ContentVersion } from "../../../block/model/contract.ts";
import { ask } from "./account.ts";
import type { Attempt } from "./attempts.ts";
import { PieceWriter, discardBody, eachChunk } from "./body.ts";
import type { HttpOptions } from "./options.ts";
import type { Source, SourceFacts, Wanted } from "./range-source.ts";
import { badAnswer, changedSource } from "./validate.ts";

/** Where the numbers go in a name: before its extension, of which `.zst` may be a second one. */
const EXTENSION = /\.[^./]+(\.zst)?$/;

/** Parts by plain GETs. */
export class PartSource implements Source {
  /** Parts are resources of their own: there is no version of the whole. */
  readonly facts: SourceFacts = { changed: false };
  readonly size: number;
  readonly maxRequestBytes: number;
  readonly #http: HostHttp;
  readonly #codecs: HostCodecs;
  readonly #options: HttpOptions;
  readonly #zstd: boolean;

  constructor(init: {
    http: HostHttp;
    codecs: HostCodecs;
    options: HttpOptions;
    size: number;
    partBytes: number;
  }) {
    this.#http = init.http;
    this.#codecs = init.codecs;
    this.#options = init.options;
    this.size = init.size;
    this.maxRequestBytes = init.partBytes;
    this.#zstd = new URL(init.options.url).pathname.endsWith(".zst");
    if (this.#zstd && !init.codecs.decompressZstd)
      throw blockError("ENOTSUP", "open", "the parts need zstd, which is not here");
  }

  demand({ size }: ContentVersion): void {
    const { url } = this.#options;
    if (size !== this.size) throw changedSource(url, `it had ${size} bytes and has ${this.size}`);
  }

  /** The URL of the part from `start` on. */
  describe(start: number): string {
    const url = new URL(this.#options.url);
    const extension = EXTENSION.exec(url.pathname)?.[0] ?? "";
    let stem = url.pathname.slice(0, url.pathname.length - extension.length);
    if (!stem.endsWith("/")) stem += "-";
    url.pathname = `${stem}${start}-${start + this.maxRequestBytes}${extension}`;
    return url.href;
  }

  async fetch(attempt: Attempt, start: number, { pieces, arrived }: Wanted): Promise<void> {
    const url = this.describe(start);
    const response = await ask(this.#http, this.#options, { url, attempt });
    if (response.status !== 200) {
      await discardBody(response);
      throw statusError(url, response);
    }
    const part = new Uint8Array(this.maxRequestBytes);
    const bytes = this.#zstd
      ? await this.#decoded(url, attempt, response, part)
      : await whole(url, attempt, response, part);
    const needed = Math.min(this.maxRequestBytes, this.size - start);
    if (bytes !== this.maxRequestBytes && bytes !== needed)
      throw badAnswer(url, `the part has ${bytes} bytes instead of ${this.maxRequestBytes}`);
    arrived(needed);
    new PieceWriter(pieces).write(part.subarray(0, needed));
  }

  async #decoded(url: string, attempt: Attempt, response: HttpResponse, part: Uint8Array): Promise<number> {
    // A frame is hardly longer than what it holds.
    const frame = new Uint8Array(part.byteLength + MiB);
    const bytes = await whole(url, attempt, response, frame);
    return this.#codecs.decompressZstd!(frame.subarray(0, bytes), part);
  }
}

async function whole(
  url: string,
  attempt: Attempt,
  response: HttpResponse,
  into: Uint8Array,
): Promise<number> {
  const writer = new PieceWriter([into]);
  await eachChunk(response, (chunk) => {
    attempt.progress();
    if (writer.bytes + chunk.byteLength > into.byteLength)
      throw badAnswer(url, `the part is longer than ${into.byteLength} bytes`);
    writer.write(chunk);
  });
  return writer.bytes;
}

function statusError(url: string, { status }: HttpResponse): BlockError {
  const code =
    status === 404 || status === 410 ? "ENOENT" : status === 401 || status === 403 ? "EACCES" : "EIO";
  return new BlockError({ code, op: "pread", message: `${url}: HTTP status ${status}` });
}
