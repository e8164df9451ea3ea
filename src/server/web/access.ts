/**
 * Who may speak to a web server of ours: whoever shows its token, under a name that the server has, and no page of another origin.
 *
 * Invariants: without the token nothing is told of the engine; a page on a name of its own that leads here (DNS rebinding) is refused by
 * the name, a page elsewhere by its Origin, which browsers send with every WebSocket. Source: RFC 6455 (10.2), RFC 6750 (Bearer).
 */
import type { HttpIncoming } from "../../base/host.ts";

/** Whom a server lets in. */
export interface WebAccess {
  readonly token: string;
  /** The names under which it is asked (`localhost:8080`); undefined: any. */
  readonly hosts: ReadonlySet<string> | undefined;
  /** Origins whose pages may come, beside its own; `*`: all. */
  readonly origins: readonly string[];
  /** Its own. */
  readonly scheme: WebScheme;
}

/** How a server is spoken to. */
export type WebScheme = "http" | "https";

/** The status that a request is refused with; undefined: it may come in. */
export function refusalOf(request: HttpIncoming, access: WebAccess): number | undefined {
  const host = (request.header("host") ?? "").toLowerCase();
  if (access.hosts && !access.hosts.has(host)) return 421;
  const origin = request.header("origin");
  if (origin !== undefined && !isAllowed(origin, host, access)) return 403;
  return isSame(tokenOf(request), access.token) ? undefined : 401;
}

function isAllowed(origin: string, host: string, { origins, scheme }: WebAccess): boolean {
  return origins.includes("*") || origins.includes(origin) || origin.toLowerCase() === `${scheme}://${host}`;
}

function tokenOf(request: HttpIncoming): string {
  const bearer = /^Bearer +(\S+)$/i.exec(request.header("authorization") ?? "")?.[1];
  return bearer ?? targetOf(request).query.get("token") ?? "";
}

/** Compares in a time that does not tell where two words differ. */
function isSame(shown: string, token: string): boolean {
  let differs = shown.length ^ token.length;
  for (let at = 0; at < token.length; at++) differs |= token.charCodeAt(at) ^ shown.charCodeAt(at);
  return differs === 0;
}

/** A request's path and query. */
export function targetOf({ target }: HttpIncoming): { path: string; query: URLSearchParams } {
  const [path = "", ...query] = target.split("?");
  return { path, query: new URLSearchParams(query.join("?")) };
}

/** What clients call a server of this address in their requests. */
export function namesOf(host: string, port: number, scheme: WebScheme = "http"): string[] {
  const usual = scheme === "http" ? 80 : 443;
  const names = [bracketed(host), "localhost", "127.0.0.1", "[::1]"];
  return names.flatMap((name) => [`${name}:${port}`, ...(port === usual ? [name] : [])]);
}

/** A host as URLs have it. */
export function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

/** A new token: 32 letters and digits out of random bytes that are fit for keys. */
export function makeToken(randomBytes: (bytes: number) => Uint8Array): string {
  return [...randomBytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
