// An object store for tests: GET by ranges, HEAD, PUT, DELETE, listings, multipart uploads with parts copied by the store, and
// conditional requests (If-Match, If-None-Match, 409 where the conditions of two meet), with faults on demand. Signatures are not
// checked here (s3rver does that), but must be there.
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

/** An object. */
export interface Stored {
  bytes: Buffer;
  etag: string;
  headers: Record<string, string>;
  /** ISO 8601. */
  changed: string;
}

/** A request, as a fault sees it. */
export interface Seen {
  readonly method: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly authorization: string;
  /** Of the body. */
  readonly bytes: number;
}

/** What is answered instead; undefined: what is right. `after`: the request is carried out, and this is answered. */
export type Fault = (seen: Seen) =>
  | {
      status?: number;
      code?: string;
      /** Where the bucket is. */
      region?: string;
      headers?: Record<string, string>;
      hang?: boolean;
      cut?: boolean;
      after?: boolean;
    }
  | undefined;

interface Answer {
  status: number;
  body?: string | Buffer;
  headers?: Record<string, string>;
}

/** A running store. */
export class TestStore {
  readonly objects = new Map<string, Stored>();
  readonly uploads = new Map<
    string,
    { key: string; parts: Map<number, Buffer>; headers: Record<string, string> }
  >();
  readonly seen: Seen[] = [];
  /** Bytes of bodies that came and went. */
  received = 0;
  sent = 0;
  fault: Fault = () => undefined;
  /** Keys that a page of a listing has. */
  pageKeys = 3;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(): Promise<TestStore> {
    const store = new TestStore();
    await new Promise<void>((resolve) => store.#server.listen(0, "127.0.0.1", resolve));
    return store;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Keys, the bucket first. */
  keys(): string[] {
    return [...this.objects.keys()].toSorted();
  }

  put(key: string, bytes: Buffer, headers: Record<string, string> = {}): Stored {
    const etag = `"${createHash("md5").update(bytes).digest("hex")}"`;
    const stored = { bytes, etag, headers, changed: new Date().toISOString() };
    this.objects.set(key, stored);
    return stored;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Whoever was killed in the middle of a request has asked for nothing.
    const body = await buffer(request).catch(() => undefined);
    if (!body) return;
    const url = new URL(request.url!, "http://store");
    const key = decodeURIComponent(url.pathname.slice(1));
    const seen = {
      method: request.method!,
      key,
      query: url.searchParams,
      authorization: request.headers.authorization ?? "",
      bytes: body.byteLength,
    };
    this.seen.push(seen);
    this.received += body.byteLength;
    const fault = this.fault(seen);
    const right = fault && !fault.after ? undefined : this.#answer(request, { seen, body });
    if (fault?.hang) return;
    if (fault?.cut) return void request.socket.destroy();
    const answer: Answer = fault
      ? { status: fault.status ?? 503, body: xmlError(fault), headers: fault.headers ?? {} }
      : right!;
    const content = Buffer.from(answer.body ?? "");
    this.sent += request.method === "HEAD" ? 0 : content.byteLength;
    response.writeHead(answer.status, { "Content-Length": content.byteLength, ...answer.headers });
    response.end(request.method === "HEAD" ? undefined : content);
  }

  #answer(request: IncomingMessage, { seen, body }: { seen: Seen; body: Buffer }): Answer {
    const { method, query, key } = seen;
    const { headers } = request;
    if (headers.authorization === undefined) return { status: 403, body: xmlError({ code: "AccessDenied" }) };
    const hash = createHash("sha256").update(body).digest("hex");
    if (headers["x-amz-content-sha256"] !== hash)
      return { status: 400, body: xmlError({ code: "BadDigest" }) };
    if (query.has("list-type")) return this.#list(key, query);
    if (method === "POST" && query.has("uploads")) return this.#begin(key, headers);
    if (method === "DELETE") return this.#remove(key, query);
    if (method === "GET" || method === "HEAD") return this.#get(key, headers);
    const unmet = this.#unmet(key, headers);
    if (unmet) return unmet;
    if (method === "POST") return this.#complete(key, query, body);
    return this.#put(key, query, { headers, body });
  }

  #unmet(key: string, headers: IncomingMessage["headers"]): Answer | undefined {
    const there = this.objects.get(key);
    const match = headers["if-match"];
    if (match !== undefined && !there) return { status: 404, body: xmlError({ code: "NoSuchKey" }) };
    const isUnmet =
      (match !== undefined && there?.etag !== match) || (headers["if-none-match"] === "*" && there);
    return isUnmet ? { status: 412, body: xmlError({ code: "PreconditionFailed" }) } : undefined;
  }

  #get(key: string, headers: IncomingMessage["headers"]): Answer {
    const there = this.objects.get(key);
    if (!there) return { status: 404, body: xmlError({ code: "NoSuchKey" }) };
    const unmet = this.#unmet(key, headers);
    if (unmet) return unmet;
    const own = { ETag: there.etag, "content-type": "binary/octet-stream", ...there.headers };
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
    if (first === undefined) return { status: 200, body: there.bytes, headers: own };
    const size = there.bytes.byteLength;
    if (Number(first) >= size) return { status: 416, headers: { "Content-Range": `bytes */${size}` } };
    const part = there.bytes.subarray(Number(first), Number(last) + 1);
    const range = `bytes ${first}-${Number(first) + part.byteLength - 1}/${size}`;
    return { status: 206, body: part, headers: { ...own, "Content-Range": range } };
  }

  #put(
    key: string,
    query: URLSearchParams,
    { headers, body }: { headers: IncomingMessage["headers"]; body: Buffer },
  ): Answer {
    const source = headers["x-amz-copy-source"];
    let bytes = body;
    if (typeof source === "string") {
      const from = this.objects.get(decodeURIComponent(source).slice(1));
      if (!from) return { status: 404, body: xmlError({ code: "NoSuchKey" }) };
      const [, last] = /^bytes=0-(\d+)$/.exec(String(headers["x-amz-copy-source-range"])) ?? [];
      bytes = last === undefined ? from.bytes : from.bytes.subarray(0, Number(last) + 1);
    }
    const upload = this.uploads.get(query.get("uploadId") ?? "");
    if (query.has("uploadId") && !upload) return { status: 404, body: xmlError({ code: "NoSuchUpload" }) };
    if (upload) upload.parts.set(Number(query.get("partNumber")), bytes);
    const etag = upload
      ? `"${createHash("md5").update(bytes).digest("hex")}"`
      : this.put(key, bytes, kept(headers)).etag;
    if (source !== undefined)
      return {
        status: 200,
        body: `<CopyPartResult><ETag>${etag.replaceAll('"', "&quot;")}</ETag></CopyPartResult>`,
      };
    return { status: 200, headers: { ETag: etag } };
  }

  #begin(key: string, headers: IncomingMessage["headers"]): Answer {
    const id = randomBytes(8).toString("hex");
    this.uploads.set(id, { key, parts: new Map(), headers: kept(headers) });
    return {
      status: 200,
      body: `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`,
    };
  }

  #complete(key: string, query: URLSearchParams, body: Buffer): Answer {
    const id = query.get("uploadId") ?? "";
    const upload = this.uploads.get(id);
    if (!upload) return { status: 404, body: xmlError({ code: "NoSuchUpload" }) };
    const numbers = [...body.toString().matchAll(/<PartNumber>(\d+)</g)].map(([, number]) => Number(number));
    const parts = numbers.map((number) => upload.parts.get(number));
    if (parts.some((part, i) => !part || (i < parts.length - 1 && part.byteLength < 5 * 2 ** 20)))
      return { status: 400, body: xmlError({ code: "EntityTooSmall" }) };
    this.put(key, Buffer.concat(parts as Buffer[]), upload.headers);
    this.uploads.delete(id);
    return { status: 200, body: "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>" };
  }

  #remove(key: string, query: URLSearchParams): Answer {
    if (query.has("uploadId")) this.uploads.delete(query.get("uploadId")!);
    else this.objects.delete(key);
    return { status: 204 };
  }

  /** In pages of a few, so that whoever lists has to go on. */
  #list(bucket: string, query: URLSearchParams): Answer {
    const start = `${bucket}/${query.get("prefix") ?? ""}`;
    const after = query.get("continuation-token") ?? "";
    const keys = this.keys().filter((key) => key.startsWith(start) && key > after);
    const page = keys.slice(0, this.pageKeys);
    const rows = page.map((key) => {
      const { bytes, changed } = this.objects.get(key)!;
      const facts = `<LastModified>${changed}</LastModified><Size>${bytes.byteLength}</Size>`;
      return `<Contents><Key>${key.slice(bucket.length + 1)}</Key>${facts}</Contents>`;
    });
    const more = keys.length > page.length;
    const next = more ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : "";
    return {
      status: 200,
      body: `<ListBucketResult><IsTruncated>${more}</IsTruncated>${next}${rows.join("")}</ListBucketResult>`,
    };
  }
}

function kept(headers: IncomingMessage["headers"]): Record<string, string> {
  const names = ["content-type", "x-amz-meta-blockwright-draft"];
  return Object.fromEntries(names.flatMap((name) => (headers[name] ? [[name, String(headers[name])]] : [])));
}

function xmlError({ code = "", region }: { code?: string; region?: string }): string {
  const where = region === undefined ? "" : `<Region>${region}</Region>`;
  return `<?xml version="1.0"?><Error><Code>${code}</Code><Message>said by the store</Message>${where}</Error>`;
}
