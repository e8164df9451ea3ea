/**
 * What a store's answers mean: errnos, by which policies act, and whether another try could help.
 *
 * Invariant: of an error's document only its code and a region are told: the rest may repeat what was signed. Source: Amazon's list of error
 * responses; RFC 9110.
 */
import type { Errno } from "../../../../base/errno.ts";
import { BlockError } from "../../../../base/errors.ts";
import type { HttpResponse } from "../../../../base/host.ts";
import { KiB } from "../../../../base/limits.ts";
import { FinalError } from "../attempts.ts";
import { eachChunk } from "../body.ts";

/** Codes that say more than their status does. */
const BY_CODE: Readonly<Record<string, Errno>> = {
  ExpiredToken: "EACCES",
  InvalidToken: "EACCES",
  TokenRefreshRequired: "EACCES",
  InvalidAccessKeyId: "EACCES",
  AuthorizationHeaderMalformed: "EACCES",
  EntityTooLarge: "EFBIG",
  NotImplemented: "ENOTSUP",
  QuotaExceeded: "ENOSPC",
  XMinioStorageFull: "ENOSPC",
  StorageFull: "ENOSPC",
  InsufficientStorage: "ENOSPC",
};

const BY_STATUS: Readonly<Record<number, Errno>> = {
  401: "EACCES",
  403: "EACCES",
  404: "ENOENT",
  405: "ENOTSUP",
  410: "ENOENT",
  412: "ESTALE",
  413: "EFBIG",
  501: "ENOTSUP",
  507: "ENOSPC",
};

/** Codes under statuses that are final for all others. */
const PASSING = new Set(["RequestTimeout", "ConditionalRequestConflict", "OperationAborted", "SlowDown"]);

/** Most bytes of a document that are read. */
const MOST_BYTES = 64 * KiB;

/** A body as text, as far as it may go. */
export async function bodyText(response: HttpResponse, most = MOST_BYTES): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  await eachChunk(response, (chunk) => {
    bytes += chunk.byteLength;
    if (bytes > most)
      throw new FinalError({ code: "EIO", op: "s3", message: `an answer is longer than ${most} bytes` });
    pieces.push(chunk);
  });
  const all = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.byteLength;
  }
  return new TextDecoder().decode(all);
}

/** What the codes mean that somebody can do something about. */
const WHY: Readonly<Record<string, string>> = {
  ExpiredToken: "the credentials have expired",
  InvalidAccessKeyId: "the store knows no such access key",
  SignatureDoesNotMatch: "the secret access key is wrong",
  RequestTimeTooSkewed: "the clock of this machine is wrong",
  NoSuchBucket: "there is no such bucket",
};

const NAMED: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

/** The texts of elements of that name, wherever they are. */
export function elements(xml: string, name: string): string[] {
  const pattern = new RegExp(`<${name}(?:\\s[^>]*)?>([^<]*)</${name}>`, "g");
  return [...xml.matchAll(pattern)].map(([, text = ""]) =>
    text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(\w+));/gi, (all, decimal, hex, named) => {
      const code = decimal ? Number(decimal) : Number.parseInt(String(hex), 16);
      if (typeof named === "string") return NAMED[named] ?? all;
      return code <= 0x10ffff ? String.fromCodePoint(code) : String(all);
    }),
  );
}

/** The error that an answer is, of what `what` names. */
export async function failureOf(response: HttpResponse, what: string): Promise<BlockError> {
  const { status } = response;
  const text = await bodyText(response).catch(() => "");
  const [code = ""] = elements(text, "Code");
  const region = response.headers.get("x-amz-bucket-region") ?? elements(text, "Region")[0] ?? "";
  return storeError({
    ...{ what, status, code: /^[\w.]{1,64}$/.test(code) ? code : "" },
    region: /^[\w-]{1,64}$/.test(region) ? region : "",
  });
}

/** The error of a status, and of a code where there is one. */
export function storeError({
  what,
  status,
  code,
  region = "",
}: {
  what: string;
  status: number;
  code: string;
  /** Where the store says that the bucket is. */
  region?: string;
}): BlockError {
  const told = `${what}: HTTP status ${status}${code === "" ? "" : ` (${code})`}`;
  const elsewhere = region === "" ? "its 'endpoint' and 'region'" : `'region=${region}'`;
  // Who follows takes the signature along, or leaves it and is nobody.
  if ((status >= 300 && status < 400) || status === 0)
    return new FinalError({
      code: "EACCES",
      op: "s3",
      message: `${told}: the store sends the request elsewhere, which is refused (give ${elsewhere})`,
    });
  const errno = BY_CODE[code] ?? BY_STATUS[status] ?? "EIO";
  const isPassing = status >= 500 || status === 408 || status === 409 || status === 429 || PASSING.has(code);
  const isRegion = code === "AuthorizationHeaderMalformed" && region !== "";
  const why = isRegion ? `the bucket is in another region: give ${elsewhere}` : WHY[code];
  const message = why === undefined ? told : `${told}: ${why}`;
  if (errno === "EIO" && isPassing) return new BlockError({ code: "EIO", op: "s3", message });
  return new FinalError({ code: errno, op: "s3", message });
}
