/**
 * The names of objects: `s3://BUCKET/KEY`, percent-encoded, with options of the driver behind a question mark
 * (`s3://disks/a.qcow2?endpoint=http://127.0.0.1:9000`). Nothing secret has a place in one.
 */
import { CommandError } from "../../../../base/errors.ts";
import type { ParsedName } from "../../../../block/model/contract.ts";

/** What may stand behind the question mark. */
const IN_NAMES = new Set([
  ...["endpoint", "region", "path-style", "conditional-writes", "form", "chunk-size", "etag"],
  ...["cache-size", "readahead", "connections", "timeout", "deadline", "retries"],
]);

function refuse(name: string, why: string): CommandError {
  return new CommandError(`'${name.replace(/\?.*/s, "")}': ${why}`);
}

/** Reads a name. Throws CommandError. */
export function parseS3Name(name: string): ParsedName {
  const [, url = "", query = ""] = /^([^?]*)(?:\?(.*))?$/s.exec(name) ?? [];
  placeOf(url);
  const options: Record<string, string> = { url };
  for (const part of query.split("&").filter((text) => text !== "")) {
    const [key = "", ...value] = part.split("=");
    if (!IN_NAMES.has(key)) throw refuse(name, `a name of an object has no option '${key}'`);
    options[key] = decoded(name, value.join("="));
  }
  return { options };
}

function decoded(name: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse(name, "it is not percent-encoded as a URL is");
  }
}

/** Where an object is. */
export interface ObjectPlace {
  readonly bucket: string;
  readonly key: string;
}

/** The bucket and the key of a URL. Throws CommandError. */
export function placeOf(url: string): ObjectPlace {
  const [, bucket, key = ""] = /^s3:\/\/([^/@:?#]+)\/([^?#]+)$/s.exec(url) ?? [];
  if (bucket === undefined) throw refuse(url, "expecting s3://BUCKET/KEY");
  if (!/^[A-Za-z0-9._-]{1,255}$/.test(bucket)) throw refuse(url, "that is no name of a bucket");
  const place = { bucket, key: decoded(url, key) };
  // A path of these is not what it says, for those who resolve it.
  if (place.key.split("/").some((part) => part === "." || part === ".."))
    throw refuse(url, "a key with '.' or '..' in its path is refused");
  if (new TextEncoder().encode(place.key).byteLength > 1024) throw refuse(url, "the key is too long");
  return place;
}

/** A place as a URL. */
export function urlOf({ bucket, key }: ObjectPlace): string {
  return `s3://${bucket}/${encodedKey(key)}`;
}

/** Percent-encoded as signatures want it, each `/` as it is. */
export function encodedKey(key: string): string {
  const one = (char: string): string => `%${char.codePointAt(0)!.toString(16).toUpperCase()}`;
  return encodeURIComponent(key)
    .replaceAll("%2F", "/")
    .replace(/[!'()*]/g, one);
}

/** The name that says as much as the options. */
export function plainS3Name(options: Readonly<Record<string, unknown>>): string | undefined {
  const { url, ...others } = options;
  if (typeof url !== "string") return undefined;
  const textOf = (value: unknown): string =>
    typeof value === "boolean" ? (value ? "on" : "off") : String(value);
  const parts = Object.entries(others).map(([key, value]) => `${key}=${encodeURIComponent(textOf(value))}`);
  return parts.length === 0 ? url : `${url}?${parts.join("&")}`;
}
