/**
 * The options of the http driver, read and checked. Names that QEMU's curl driver has mean the same here. Source: QAPI
 * BlockdevOptionsCurlHttp; the rest is ours.
 */
import { BlockError, errnoOf, messageOf } from "../../../base/errors.ts";
import type { HostHttp } from "../../../base/host.ts";
import { withoutPassword } from "../../../base/names.ts";
import { KiB, MiB, limits } from "../../../base/limits.ts";
import { isPowerOfTwo } from "../../../base/ranges.ts";
import type { NodeSpec, OpenContext } from "../../../block/model/contract.ts";
import { optionError, sizeOption, stringOption } from "../../../block/model/options.ts";
import { type Account, accountOptions } from "./account.ts";
import { numberWithin } from "./numbers.ts";
import type { TypeOf } from "../../../wire/qapi/index.ts";
import { valuesOf } from "../../../wire/qapi/option-types.ts";

/** What the driver works with. */
export interface HttpOptions {
  /** Absolute. */
  url: string;
  /** Bytes of the disk, if the caller knows. */
  size: number | undefined;
  /** The ETag that the disk must have. */
  etag: string | undefined;
  ifMatch: TypeOf<"OnOffAuto">;
  credentials: TypeOf<"HttpCredentials">;
  /** What goes along to the disk's own origin. */
  account: Account;
  /** Unit of requests, bytes; undefined: the default, or what parts and manifest say. */
  clusterBytes: number | undefined;
  cacheBytes: number;
  readaheadBytes: number;
  /** How long a try may bring nothing. */
  timeoutMs: number;
  /** How long nothing may come over all tries of a read. */
  deadlineMs: number;
  /** Tries after the first. */
  retries: number;
  /** Requests at once. */
  connections: number;
  /** Bytes of each part of a disk in parts. */
  partBytes: number | undefined;
  /** A URL or a file's name, or the manifest itself. */
  manifest: string | Uint8Array | undefined;
}

function oneOf<T extends string>(spec: NodeSpec, name: string, values: readonly T[], byDefault: T): T {
  const value = stringOption(spec, name) ?? byDefault;
  const found = values.find((one) => one === value);
  if (found === undefined) throw optionError(`Parameter '${name}' does not accept value '${value}'`);
  return found;
}

function powerOfTwo(spec: NodeSpec, name: string): number | undefined {
  const value = sizeOption(spec, name);
  if (value === undefined || (isPowerOfTwo(value) && value >= 512 && value <= limits.httpMaxClusterBytes))
    return value;
  throw optionError(`Parameter '${name}' expects a power of two from 512 to ${limits.httpMaxClusterBytes}`);
}

/** The absolute URL; it must be of the driver's own scheme, as with QEMU. */
function urlOption(spec: NodeSpec, base: string | undefined): string {
  const text = stringOption(spec, "url");
  if (text === undefined) throw optionError("Parameter 'url' is missing");
  let url: URL;
  try {
    url = new URL(text, base);
  } catch {
    throw optionError(`'${withoutPassword(text)}' is no URL`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw optionError(`'${withoutPassword(text)}' is no URL of http or https`);
  // A relative URL has the page's scheme; whoever spells one means it.
  if (/^[a-z]+:/i.test(text) && url.protocol !== `${spec.driver}:`)
    throw optionError(
      `${spec.driver} curl driver cannot handle the URL '${withoutPassword(text)}' (does not start with '${spec.driver}://')`,
    );
  if (url.username !== "" || url.password !== "")
    throw optionError("A URL with a user name or a password is refused: messages and headers would show it");
  url.hash = "";
  return url.href;
}

function partBytesOption(spec: NodeSpec): number | undefined {
  const parts = spec["parts"];
  if (parts === undefined) return undefined;
  if (typeof parts !== "object" || parts === null)
    throw optionError("Invalid parameter type for 'parts', expected: object");
  const bytes = sizeOption(parts as NodeSpec, "chunk-size");
  if (bytes === undefined) throw optionError("Parameter 'parts.chunk-size' is missing");
  if (bytes > 0 && bytes % 512 === 0 && bytes <= limits.httpMaxPartBytes) return bytes;
  throw optionError(
    `Parameter 'parts.chunk-size' expects a multiple of 512 up to ${limits.httpMaxPartBytes}`,
  );
}

/** Reads all options. EINVAL in QEMU's words where it has them. */
export function httpOptions(
  spec: NodeSpec,
  context: Pick<OpenContext, "graph">,
  http: HostHttp,
): HttpOptions {
  const partBytes = partBytesOption(spec);
  const clusterBytes = powerOfTwo(spec, "cluster-size");
  if (partBytes !== undefined && clusterBytes !== undefined)
    throw optionError("Parameter 'cluster-size' cannot be used together with 'parts'");
  const timeoutMs = numberWithin(spec, "timeout", { byDefault: 5, least: 1, most: 86_400 }) * 1000;
  return {
    url: urlOption(spec, http.base),
    size: sizeOption(spec, "size"),
    etag: stringOption(spec, "etag"),
    ifMatch: oneOf(spec, "if-match", valuesOf("OnOffAuto"), "auto"),
    credentials: oneOf(spec, "credentials", valuesOf("HttpCredentials"), "omit"),
    account: accountOptions(spec, context, http),
    clusterBytes,
    cacheBytes: numberWithin(spec, "cache-size", {
      byDefault: 8 * MiB,
      least: 0,
      most: limits.httpMaxCacheBytes,
    }),
    readaheadBytes: numberWithin(spec, "readahead", {
      byDefault: 256 * KiB,
      least: 0,
      most: limits.httpMaxCacheBytes,
    }),
    timeoutMs,
    deadlineMs: numberWithin(spec, "deadline", { byDefault: 15, least: 1, most: 86_400 }) * 1000,
    retries: numberWithin(spec, "retries", { byDefault: 3, least: 0, most: 100 }),
    connections: numberWithin(spec, "connections", { byDefault: 4, least: 1, most: 16 }),
    partBytes,
    manifest: spec["manifest"] instanceof Uint8Array ? spec["manifest"] : stringOption(spec, "manifest"),
  };
}

/** Ends an open that failed with `Could not open 'URL': …`, the URL named once; a refused option goes on in its own words. */
export function openFailed(url: string, error: unknown, node: string): never {
  const code = errnoOf(error);
  if (code === "EINVAL") throw error;
  const words = messageOf(error);
  const reason = words.startsWith(`${url}: `) ? words.slice(url.length + 2) : words;
  throw new BlockError({
    code,
    op: "open",
    node,
    message: `Could not open '${url}': ${reason}`,
    cause: error,
  });
}
