/**
 * Requests to a registry, with its tokens, tried again within bounds.
 *
 * Invariants: user and password go to the registry, and to whom it names for tokens, there never without TLS unless the registry
 * has none itself; a blob may be somewhere else (a redirect), where no token goes along. Source: OCI distribution specification;
 * Docker's token authentication; RFC 7235.
 */
import type { Errno } from "../../../../base/errno.ts";
import { BlockError, blockError } from "../../../../base/errors.ts";
import type { Host, HostHttp, HttpResponse } from "../../../../base/host.ts";
import { KiB } from "../../../../base/limits.ts";
import { Attempts, FinalError } from "../attempts.ts";
import { discardBody, eachChunk, watched } from "../body.ts";
import type { OciOptions } from "./options.ts";

/** A request. */
export interface RegistryRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PATCH" | "PUT";
  /** A path below the repository's, or a URL that the registry has told. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Statuses that are answers; default 200. */
  readonly fine?: readonly number[];
}

const ERRNOS: Readonly<Record<number, Errno>> = {
  401: "EACCES",
  403: "EACCES",
  404: "ENOENT",
  405: "ENOTSUP",
  410: "ENOENT",
  413: "EFBIG",
  507: "ENOSPC",
};

/** Most bytes of an error's document that are read. */
const MOST_ERROR_BYTES = 64 * KiB;

/** Collects a body of at most so many bytes. */
export async function bodyBytes(response: HttpResponse, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  await eachChunk(response, (chunk) => {
    bytes += chunk.byteLength;
    if (bytes > most)
      throw new FinalError({ code: "EIO", op: "oci", message: `an answer is longer than ${most} bytes` });
    pieces.push(chunk.slice());
  });
  const all = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.byteLength;
  }
  return all;
}

/** A registry, for one repository. */
export class Registry {
  readonly #http: HostHttp & Required<Pick<HostHttp, "send">>;
  readonly #options: OciOptions;
  readonly #attempts: Attempts;
  readonly #pushes: boolean;
  /** The header of who asks; undefined: nobody has asked for it yet. */
  #authorization: string | undefined;

  constructor(host: Host, options: OciOptions, { pushes = false }: { pushes?: boolean } = {}) {
    const { http } = host;
    const send = http?.send?.bind(http);
    if (!http || !send) throw blockError("ENOTSUP", "open", "This platform has no HTTP for registries");
    this.#http = { ...http, get: http.get.bind(http), send };
    this.#options = options;
    this.#attempts = new Attempts(host, options);
    this.#pushes = pushes;
  }

  close(): void {
    this.#attempts.close();
  }

  /** Where a blob is. */
  blobUrl(digest: string): string {
    return this.#url(`blobs/${digest}`);
  }

  /** HTTP for readers of ranges of this registry's blobs. */
  get ranges(): HostHttp {
    return {
      get: async (url, request) => {
        const ask = (): Promise<HttpResponse> =>
          this.#http.get(url, { ...request, headers: { ...request.headers, ...this.#account() } });
        const response = await ask();
        if (response.status !== 401) return response;
        await this.#renew(response, request.signal);
        return ask();
      },
    };
  }

  /** Sends until there is an answer of the wanted kind, which is `take`n. */
  request<T>(request: RegistryRequest, take: (response: HttpResponse) => Promise<T>): Promise<T> {
    const { fine = [200] } = request;
    return this.#attempts.run(this.#options.url, async (attempt) => {
      let response = await this.#once(request, attempt.signal);
      if (response.status === 401 && !fine.includes(401)) {
        await this.#renew(response, attempt.signal);
        response = await this.#once(request, attempt.signal);
      }
      attempt.progress();
      if (fine.includes(response.status)) return take(watched(response, () => attempt.progress()));
      throw await this.#failed(response, request.path);
    });
  }

  /** What an answer tells that is none of those that are wanted. */
  async #failed(response: HttpResponse, path: string): Promise<BlockError> {
    const text = await bodyBytes(response, MOST_ERROR_BYTES).catch(() => new Uint8Array());
    return this.#failure(response.status, codeIn(new TextDecoder().decode(text)), path);
  }

  #failure(status: number, code = "", path = ""): BlockError {
    const told = `${this.#options.url}: HTTP status ${status}${code === "" ? "" : ` (${code})`}`;
    const why = this.#why(status, code, path);
    const message = why === undefined ? told : `${told}: ${why}`;
    if (status === 408 || status === 429 || (status >= 500 && status !== 507))
      return new BlockError({ code: "EIO", op: "oci", message });
    return new FinalError({ code: ERRNOS[status] ?? "EIO", op: "oci", message });
  }

  /** What somebody can do something about. */
  #why(status: number, code: string, path: string): string | undefined {
    const [, reference] = /^manifests\/(.+)$/.exec(path) ?? [];
    if (status === 404 && code === "NAME_UNKNOWN") return "there is no such repository";
    if (status === 404 && reference !== undefined)
      return `there is no image '${reference}' in the repository`;
    if (status !== 401 && status !== 403) return undefined;
    if (this.#options.login() === undefined)
      return "it is not for everybody: give 'username' and 'password-secret'";
    return status === 401 ? "'username' or its password is wrong" : "'username' may not do that";
  }

  #url(path: string): string {
    const { origin, image } = this.#options;
    return new URL(path, `${origin}/v2/${image.repository}/`).href;
  }

  /** What says who asks, to the registry itself. */
  #account(): Record<string, string> {
    return this.#authorization === undefined ? {} : { Authorization: this.#authorization };
  }

  #once({ method, path, headers = {}, body }: RegistryRequest, signal: AbortSignal): Promise<HttpResponse> {
    const url = this.#url(path);
    const isOwn = new URL(url).origin === this.#options.origin;
    const account = isOwn ? this.#account() : {};
    const all = { ...headers, ...account };
    if (method === "GET") return this.#http.get(url, { headers: all, signal, credentials: "omit" });
    return this.#http.send(url, { method, headers: all, signal, ...(body ? { body } : {}) });
  }

  /** Gets what a 401 asks for. */
  async #renew(response: HttpResponse, signal: AbortSignal): Promise<void> {
    const challenge = response.headers.get("www-authenticate") ?? "";
    await discardBody(response);
    const login = this.#options.login();
    if (/^basic\b/i.test(challenge) && login !== undefined) {
      this.#authorization = `Basic ${login}`;
      return;
    }
    if (!/^bearer\b/i.test(challenge)) throw this.#failure(401);
    this.#authorization = `Bearer ${await this.#token(challenge, signal)}`;
  }

  async #token(challenge: string, signal: AbortSignal): Promise<string> {
    const { origin, image, url, login } = this.#options;
    const told = new Map(
      [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", value = ""]) => [key, value]),
    );
    const realm = told.get("realm") ?? "";
    const isSafe =
      realm.startsWith("https://") || (origin.startsWith("http://") && realm.startsWith("http://"));
    if (!URL.canParse(realm) || !isSafe)
      throw new FinalError({
        code: "EACCES",
        op: "oci",
        message: `${url}: the registry names no safe place for tokens`,
      });
    const from = new URL(realm);
    if (told.has("service")) from.searchParams.set("service", told.get("service")!);
    from.searchParams.set("scope", `repository:${image.repository}:${this.#pushes ? "pull,push" : "pull"}`);
    const who = login();
    const headers: Record<string, string> = who === undefined ? {} : { Authorization: `Basic ${who}` };
    const response = await this.#http.send(from.href, { method: "GET", headers, signal });
    const text = new TextDecoder().decode(await bodyBytes(response, 2 ** 20));
    if (response.status !== 200) throw this.#failure(response.status === 400 ? 401 : response.status);
    const token = tokenIn(text);
    if (token !== undefined) return token;
    throw new FinalError({ code: "EACCES", op: "oci", message: `${url}: the registry gives no token` });
  }
}

/** The code of an error's document, of which nothing else is told: the rest may repeat what was sent. */
function codeIn(text: string): string {
  try {
    const [first] = (JSON.parse(text) as { errors: { code?: unknown }[] }).errors;
    const code = first?.code;
    return typeof code === "string" && /^[A-Z_]{1,40}$/.test(code) ? code : "";
  } catch {
    return "";
  }
}

function tokenIn(text: string): string | undefined {
  try {
    const { token, access_token: other } = JSON.parse(text) as { token?: unknown; access_token?: unknown };
    const found = token ?? other;
    return typeof found === "string" && /^[\x21-\x7e]+$/.test(found) ? found : undefined;
  } catch {
    return undefined;
  }
}
