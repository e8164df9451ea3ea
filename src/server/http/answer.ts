/**
 * What an HTTP server answers about one disk: the whole of it or a range, to GET and HEAD, with an entity tag. No I/O.
 *
 * Invariants: a request for something else than this disk, for more than one range, or under a name that the server does not have (a
 * page that points a name of its own at it) gets nothing of the disk. Source: RFC 9110 (13 conditions, 14 ranges); Fetch (CORS).
 */

/** What is served. */
export interface ServedDisk {
  /** Its path is `/NAME`. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Its strong entity tag, quotes included: another content has another one. */
  readonly etag: string;
  /** The origin whose pages may read it, or `*`; undefined: none but those of the server. */
  readonly origin: string | undefined;
  /** The names under which the server is asked (`localhost:8080`); undefined: any. */
  readonly hosts: ReadonlySet<string> | undefined;
}

/** A request. */
export interface HttpAsked {
  readonly method: string;
  /** The target: path and query. */
  readonly target: string;
  /** A header's value. */
  header(name: string): string | undefined;
}

/** An answer; `range`: the bytes of the disk that are its body. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly range?: { readonly offset: number; readonly end: number };
  /** A body of words. */
  readonly text?: string;
}

const METHODS = "GET, HEAD, OPTIONS";

/** Answers a request. */
export function answerOf(asked: HttpAsked, disk: ServedDisk): HttpAnswer {
  if (disk.hosts && !disk.hosts.has((asked.header("host") ?? "").toLowerCase()))
    return told(421, "this server does not have that name");
  const [path = ""] = asked.target.split("?");
  if (decoded(path) !== `/${disk.name}`) return told(404, "no such disk");
  const cors = corsOf(disk);
  if (asked.method === "OPTIONS")
    return { status: 204, headers: { ...cors, allow: METHODS, ...preflightOf(disk) } };
  if (asked.method !== "GET" && asked.method !== "HEAD")
    return { ...told(405, "the disk is read only"), headers: { ...cors, allow: METHODS } };
  return { ...contentOf(asked, disk), headers: { ...contentOf(asked, disk).headers, ...cors } };
}

function told(status: number, text: string): HttpAnswer {
  return { status, headers: { "content-type": "text/plain" }, text: `${text}\n` };
}

function decoded(path: string): string | undefined {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

function corsOf({ origin }: ServedDisk): Record<string, string> {
  if (origin === undefined) return {};
  return {
    "access-control-allow-origin": origin,
    "access-control-expose-headers": "ETag, Content-Range, Content-Length, Accept-Ranges",
    vary: "Origin",
  };
}

function preflightOf({ origin }: ServedDisk): Record<string, string> {
  if (origin === undefined) return {};
  return {
    "access-control-allow-methods": METHODS,
    "access-control-allow-headers": "Range, If-Range, If-Match, If-None-Match",
    "access-control-max-age": "86400",
  };
}

function contentOf(asked: HttpAsked, { size, etag }: ServedDisk): HttpAnswer {
  const headers = {
    etag,
    "accept-ranges": "bytes",
    "content-type": "application/octet-stream",
    "cache-control": "no-cache",
  };
  const wanted = asked.header("if-match");
  if (wanted !== undefined && !names(wanted, etag))
    return { status: 412, headers: { ...headers, "content-length": "0" } };
  const known = asked.header("if-none-match");
  if (known !== undefined && names(known, etag)) return { status: 304, headers: { etag } };
  const condition = asked.header("if-range");
  const range =
    condition === undefined || condition === etag ? rangeOf(asked.header("range"), size) : undefined;
  if (range === "unsatisfiable")
    return {
      status: 416,
      headers: { ...headers, "content-length": "0", "content-range": `bytes */${size}` },
    };
  const { offset, end } = range ?? { offset: 0, end: size };
  const length = { "content-length": String(end - offset) };
  if (!range) return { status: 200, headers: { ...headers, ...length }, range: { offset, end } };
  const part = { "content-range": `bytes ${offset}-${end - 1}/${size}` };
  return { status: 206, headers: { ...headers, ...length, ...part }, range: { offset, end } };
}

/** Whether a list of tags has this one, or is `*`. */
function names(list: string, etag: string): boolean {
  return list.trim() === "*" || list.split(",").some((one) => one.trim() === etag);
}

/** The one range of a header; undefined: the whole disk is meant, or what is written is no range of bytes. */
function rangeOf(
  header: string | undefined,
  size: number,
): { offset: number; end: number } | "unsatisfiable" | undefined {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header?.replaceAll(" ", "") ?? "") ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return undefined;
  if (first === "") {
    const bytes = Math.min(Number(last), size);
    return bytes === 0 ? "unsatisfiable" : { offset: size - bytes, end: size };
  }
  const offset = Number(first);
  if (last !== "" && Number(last) < offset) return undefined;
  if (offset >= size) return "unsatisfiable";
  return { offset, end: last === "" ? size : Math.min(Number(last) + 1, size) };
}
