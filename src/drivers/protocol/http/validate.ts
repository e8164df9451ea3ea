/**
 * Judges an answer to a range request by its head: 206, the very range that was asked for, no coding, and the same
 * version of the resource as before.
 *
 * Which version: a strong or weak ETag, else Last-Modified, else only the total length, as far as each can be read. A
 * value that is there and differs from the first one is a changed source (ESTALE), which nothing makes good again.
 * Source: RFC 9110, sections 8.8 (validators) and 14 (ranges).
 */
import { BlockError, blockError } from "../../../base/errors.ts";
import type { HttpResponse } from "../../../base/host.ts";

/** What is known of the resource; undefined where no answer said it yet, or none may be read. */
export interface Version {
  total: number | undefined;
  etag: string | undefined;
  lastModified: string | undefined;
}

/** The range asked for, bytes; `end` is exclusive. */
export interface WantedRange {
  start: number;
  end: number;
}

/** An answer that can't be used, EIO; another try may bring a better one. */
export function badAnswer(url: string, what: string): BlockError {
  return new BlockError({ code: "EIO", op: "pread", message: `${url}: ${what}` });
}

/** The source is not what it was when the disk was opened. */
export function changedSource(url: string, what: string): BlockError {
  return new BlockError({ code: "ESTALE", op: "pread", message: `${url} has changed: ${what}` });
}

/** The status code of an answer that is no 206, as an error. */
function statusError(url: string, { status, headers }: HttpResponse, version: Version): BlockError {
  const described = `${url}: HTTP status ${status}`;
  if (status === 404 || status === 410) return blockError("ENOENT", "pread", described);
  if (status === 401 || status === 403 || status === 407) return blockError("EACCES", "pread", described);
  if (status === 412) return changedSource(url, "it has another ETag");
  if (status === 416) {
    const known = version.total ?? 0;
    return known > 0 ? changedSource(url, "it is shorter") : badAnswer(url, "the range lies outside of it");
  }
  if (status === 200) {
    const etag = headers.get("etag");
    if (etag !== null && version.etag !== undefined && etag !== version.etag)
      return changedSource(url, `its ETag was ${version.etag} and is ${etag}`);
    return badAnswer(url, "the server ignores ranges and sends everything (status 200)");
  }
  return badAnswer(url, `HTTP status ${status}`);
}

/** Throws unless what an answer says of the version agrees with what is known; returns what is known now. */
export function checkVersion(url: string, known: Version, now: Version): Version {
  const { etag, lastModified, total } = now;
  if (etag !== undefined && known.etag !== undefined) {
    if (etag !== known.etag) throw changedSource(url, `its ETag was ${known.etag} and is ${etag}`);
  } else if (
    lastModified !== undefined &&
    known.lastModified !== undefined &&
    lastModified !== known.lastModified
  ) {
    throw changedSource(url, `it was modified at ${known.lastModified} and at ${lastModified}`);
  }
  if (total !== undefined && known.total !== undefined && total !== known.total)
    throw changedSource(url, `it had ${known.total} bytes and has ${total}`);
  return {
    total: known.total ?? total,
    etag: known.etag ?? etag,
    lastModified: known.lastModified ?? lastModified,
  };
}

interface ContentRange {
  start: number;
  end: number;
  total: number | undefined;
}

function parseContentRange(text: string): ContentRange | undefined {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/i.exec(text.trim());
  if (!match) return undefined;
  const [start, last] = [Number(match[1]), Number(match[2])];
  return { start, end: last + 1, total: match[3] === "*" ? undefined : Number(match[3]) };
}

/**
 * Checks an answer's head; returns how many bytes its body must have, and the version. `hidden`: the headers of this
 * origin may be kept from us, so that a missing Content-Range is no fault (the caller has given the size).
 */
export function checkHead(
  url: string,
  response: HttpResponse,
  { wanted, known, hidden }: { wanted: WantedRange; known: Version; hidden: boolean },
): { bytes: number; version: Version } {
  if (response.status !== 206) throw statusError(url, response, known);
  const { headers } = response;
  const coding = headers.get("content-encoding");
  if (coding !== null && coding !== "identity")
    throw badAnswer(url, `the range comes in the coding '${coding}'`);
  const text = headers.get("content-range");
  const range = text === null ? undefined : parseContentRange(text);
  if (text === null && !hidden) throw badAnswer(url, "the answer has no Content-Range that can be read");
  if (text !== null && !range) throw badAnswer(url, `the answer's Content-Range is '${text}'`);
  const version = checkVersion(url, known, {
    total: range?.total,
    etag: headers.get("etag") ?? undefined,
    lastModified: headers.get("last-modified") ?? undefined,
  });
  const end = Math.min(wanted.end, version.total ?? wanted.end);
  if (range && (range.start !== wanted.start || range.end !== end))
    throw badAnswer(
      url,
      `asked for bytes ${wanted.start}-${end - 1}, the answer's Content-Range is '${text}'`,
    );
  const length = headers.get("content-length");
  if (length !== null && Number(length) !== end - wanted.start)
    throw badAnswer(url, `asked for ${end - wanted.start} bytes, the answer has ${length}`);
  return { bytes: end - wanted.start, version };
}
