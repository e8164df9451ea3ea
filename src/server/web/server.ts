/**
 * A web server of an engine: a page of static files, its metrics, and QMP by WebSocket. All that knows of the engine is behind the token.
 *
 * Invariants: QMP is the only way to change anything; nothing is served under a path that is not in the table.
 */
import type {
  Host,
  HostConnection,
  HttpIncoming,
  HttpListening,
  HttpOutgoing,
  SocketTaker,
  TlsCredentials,
} from "../../base/host.ts";
import { CommandError, messageOf } from "../../base/errors.ts";
import { namesOf, refusalOf, targetOf, type WebAccess } from "./access.ts";
import { type Family, OPEN_METRICS_TYPE, openMetrics } from "./open-metrics.ts";

/** A static file. */
export interface WebFile {
  readonly type: string;
  readonly bytes: Uint8Array;
  /** It is shown without the token, since it says nothing of this engine. */
  readonly isOpen: boolean;
}

/** What a server is made of. */
export interface WebServerOptions {
  readonly host: Pick<Host, "httpServer">;
  /** Port 0: any that is free. */
  readonly address: { readonly host: string; readonly port: number };
  readonly token: string;
  /** It may be asked under any name: it listens where others reach it. */
  readonly anyName: boolean;
  /** Origins whose pages may connect, beside its own; `*`: all. */
  readonly origins?: readonly string[];
  /** It speaks TLS, and shows these. */
  readonly credentials?: TlsCredentials | undefined;
  /** By path. */
  readonly files?: ReadonlyMap<string, WebFile>;
  readonly metrics?: () => readonly Family[];
  /** What is made when it is asked for, by path; behind the token. Where that rejects, its message is told with 503. */
  readonly live?: ReadonlyMap<string, { readonly type: string; bytes(): Promise<Uint8Array> }>;
  /** Who takes WebSockets, by path. */
  readonly sockets?: ReadonlyMap<string, { isText: boolean; accept(connection: HostConnection): void }>;
}

/** The page gets everything from here, and its only connection is to here. */
const SAFE = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
} as const;

const WHY: Readonly<Record<number, string>> = {
  401: "the token is missing or wrong: open the URL that the daemon printed",
  403: "pages of that origin may not come here",
  404: "no such page",
  405: "only GET and HEAD",
  421: "this server does not have that name",
};

/** Begins to listen. Throws CommandError where the platform has no servers, BlockError (EADDRINUSE …). */
export async function startWebServer(options: WebServerOptions): Promise<HttpListening> {
  const { address, host, token, anyName, origins = [], credentials } = options;
  if (!host.httpServer) throw new CommandError("This platform has no HTTP servers", { code: "ENOTSUP" });
  const names = new Set<string>();
  const scheme = credentials ? "https" : "http";
  const access: WebAccess = { token, hosts: anyName ? undefined : names, origins, scheme };
  const listening = await host.httpServer.listen(address, (request) => answer(request, access, options), {
    onSocket: (request) => socketFor(request, access, options),
    ...(credentials ? { credentials } : {}),
  });
  for (const name of namesOf(address.host, listening.port, scheme)) names.add(name);
  return listening;
}

async function answer(
  request: HttpIncoming,
  access: WebAccess,
  options: WebServerOptions,
): Promise<HttpOutgoing> {
  if (request.method !== "GET" && request.method !== "HEAD") return told(405);
  const { path } = targetOf(request);
  const file = options.files?.get(path);
  if (file?.isOpen) return sent(200, file.type, file.bytes);
  const refused = refusalOf(request, access);
  if (refused !== undefined) return told(refused);
  if (file) return sent(200, file.type, file.bytes);
  if (path === "/metrics" && options.metrics)
    return sent(200, OPEN_METRICS_TYPE, new TextEncoder().encode(openMetrics(options.metrics())));
  const live = options.live?.get(path);
  if (!live) return told(404);
  try {
    return sent(200, live.type, await live.bytes());
  } catch (error) {
    return told(503, messageOf(error));
  }
}

function told(status: number, why = WHY[status] ?? "refused"): HttpOutgoing {
  const text = `${why}\n`;
  return sent(status, "text/plain; charset=utf-8", new TextEncoder().encode(text));
}

function sent(status: number, type: string, bytes: Uint8Array): HttpOutgoing {
  const headers = { ...SAFE, "content-type": type, "content-length": String(bytes.byteLength) };
  return { status, headers, body: () => once(bytes) };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function socketFor(
  request: HttpIncoming,
  access: WebAccess,
  { sockets }: WebServerOptions,
): SocketTaker | number {
  return refusalOf(request, access) ?? sockets?.get(targetOf(request).path) ?? 404;
}
