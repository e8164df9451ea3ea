/**
 * Requests to a store, signed and tried again within bounds.
 *
 * Invariants: a redirect is followed nowhere; a body's hash is part of what is signed, so that a body that was changed on its way
 * is refused; secrets are in no error. Source: Amazon's S3 API; AWS Signature Version 4 (by aws4fetch).
 */
import { AwsV4Signer } from "aws4fetch";
import { type BlockError, blockError } from "../../../../base/errors.ts";
import type { Host, HostHttp, HttpRequest, HttpResponse } from "../../../../base/host.ts";
import { type Attempt, Attempts } from "../attempts.ts";
import { discardBody, watched } from "../body.ts";
import { failureOf } from "./answers.ts";
import { encodedKey, type ObjectPlace, placeOf, urlOf } from "./names.ts";
import type { StoreOptions } from "./options.ts";

/** What is asked of an object. */
export interface StoreRequest {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  readonly place: ObjectPlace;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Statuses that are answers; others are errors. */
  readonly fine?: readonly number[];
}

/** What an object that was put must meet. */
export interface Condition {
  /** There is none; or the one of that ETag. */
  readonly over: "nothing" | { readonly etag: string } | "anything";
}

/** How much longer than others requests with a body may take. */
const UPLOAD_TIMES = 3;
/** Statuses that say little without the document that belongs to them. */
const UNCLEAR = new Set([400, 401, 403]);
const EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** A content's SHA-256, hexadecimal. */
export async function hexHash(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A store. */
export class Store {
  readonly #http: HostHttp & Required<Pick<HostHttp, "send">>;
  readonly #host: Host;
  readonly #options: StoreOptions;
  readonly #attempts: Attempts;
  /** What goes out tells of no progress, and has longer. */
  readonly #uploads: Attempts;
  readonly #keys = new Map<string, ArrayBuffer>();

  constructor(host: Host, options: StoreOptions) {
    const { http } = host;
    const send = http?.send?.bind(http);
    if (!http || !send) throw blockError("ENOTSUP", "open", "This platform has no HTTP for object stores");
    this.#http = { ...http, get: http.get.bind(http), send };
    this.#host = host;
    this.#options = options;
    this.#attempts = new Attempts(host, options);
    const [timeoutMs, deadlineMs] = [options.timeoutMs * UPLOAD_TIMES, options.deadlineMs * UPLOAD_TIMES];
    this.#uploads = new Attempts(host, { ...options, timeoutMs, deadlineMs });
  }

  /** Whether it is asked to refuse what does not meet a condition. */
  get hasConditions(): boolean {
    return this.#options.conditionalWrites;
  }

  /** Ends all that is under way. */
  close(): void {
    this.#attempts.close();
    this.#uploads.close();
  }

  /** HTTP for readers of ranges of `s3://` URLs: each request is signed, and errors are the store's. */
  get ranges(): HostHttp {
    return {
      get: async (url, { headers, signal }) => {
        const place = placeOf(url);
        const response = await this.#once({ method: "GET", place, headers }, signal);
        if (response.status === 206 || response.status === 200 || response.status === 416) return response;
        if (response.status === 412) return response;
        throw await failureOf(response, url);
      },
    };
  }

  /** Sends until there is an answer of the wanted kind, whose body is `take`n. Rejects with the last error. */
  async request<T>(request: StoreRequest, take: (response: HttpResponse) => Promise<T>): Promise<T> {
    const what = urlOf(request.place);
    const attempts = request.body ? this.#uploads : this.#attempts;
    return attempts.run(what, (attempt) => this.#try(request, { attempt, what, take }));
  }

  async #try<T>(
    request: StoreRequest,
    { attempt, what, take }: { attempt: Attempt; what: string; take: (r: HttpResponse) => Promise<T> },
  ): Promise<T> {
    const { fine = [200, 204] } = request;
    const response = await this.#once(request, attempt.signal);
    attempt.progress();
    if (fine.includes(response.status)) return take(watched(response, () => attempt.progress()));
    const failure = await failureOf(response, what);
    throw (await this.#explained(request, { response, attempt, what })) ?? failure;
  }

  /** Why something was refused that has no body to say it in: what the answer to a reader says, if he is refused too. */
  async #explained(
    request: StoreRequest,
    { response, attempt, what }: { response: HttpResponse; attempt: Attempt; what: string },
  ): Promise<BlockError | undefined> {
    const isMute = request.method === "HEAD" && UNCLEAR.has(response.status);
    if (!isMute) return undefined;
    const headers = { Range: "bytes=0-0" };
    const asked = await this.#once({ ...request, method: "GET", headers }, attempt.signal);
    attempt.progress();
    if (asked.status === response.status) return await failureOf(asked, what);
    await discardBody(asked);
    return undefined;
  }

  /** Sends once. */
  async #once(request: StoreRequest, signal: AbortSignal): Promise<HttpResponse> {
    const { method, body } = request;
    const { url, headers } = await this.#signed(request);
    return this.#http.send(url, { method, headers, signal, ...(body ? { body } : {}) });
  }

  async #signed(request: StoreRequest): Promise<Pick<HttpRequest, "headers"> & { url: string }> {
    const { method, query = {}, headers = {}, body } = request;
    const url = this.#address(request.place, query);
    const credentials = this.#options.credentials();
    if (!credentials) return { url, headers };
    const { accessKeyId, secretAccessKey, sessionToken } = credentials;
    const hash = body ? await hexHash(body) : EMPTY_HASH;
    const signer = new AwsV4Signer({
      ...{ method, url, accessKeyId, secretAccessKey },
      ...(sessionToken === undefined ? {} : { sessionToken }),
      headers: { ...headers, "X-Amz-Content-Sha256": hash },
      ...{ service: "s3", region: this.#options.region, cache: this.#keys, datetime: this.#datetime() },
    });
    const signed = await signer.sign();
    return { url: signed.url.href, headers: Object.fromEntries(signed.headers) };
  }

  #datetime(): string {
    const date = new Date(this.#host.clock.wallMicroseconds() / 1000);
    return date.toISOString().replaceAll(/[:-]|\.\d{3}/g, "");
  }

  #address({ bucket, key }: ObjectPlace, query: Readonly<Record<string, string>>): string {
    const { endpoint, pathStyle } = this.#options;
    const origin = pathStyle ? `${endpoint}/${bucket}` : endpoint.replace("://", `://${bucket}.`);
    // A bucket itself has no slash behind it.
    const url = new URL(key === "" && pathStyle ? origin : `${origin}/${encodedKey(key)}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    // Signatures know no plus for a space.
    url.search = url.search.replaceAll("+", "%20");
    return url.href;
  }
}
