/**
 * The options of the s3 driver, read and checked. What is not given comes from the environment, by the names that every client
 * of S3 knows (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
 * AWS_SESSION_TOKEN).
 *
 * Invariant: secrets are asked for at each request, so that new ones take over from those that have expired; no message has one.
 */
import type { Host } from "../../../../base/host.ts";
import { KiB, MiB, limits } from "../../../../base/limits.ts";
import { isPowerOfTwo } from "../../../../base/ranges.ts";
import type { GraphView, NodeSpec } from "../../../../block/model/contract.ts";
import { optionError, sizeOption, stringOption } from "../../../../block/model/options.ts";
import type { Patience } from "../attempts.ts";
import { flagOption, numberWithin, withNumbers } from "../numbers.ts";
import { type ObjectPlace, placeOf, urlOf } from "./names.ts";

/** Who asks. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
}

/** Where a store is, and how it is talked to. */
export interface StoreOptions extends Patience {
  /** Origin, and perhaps a path, without a slash at the end. */
  readonly endpoint: string;
  readonly region: string;
  /** The bucket is the first part of the path, not of the host's name. */
  readonly pathStyle: boolean;
  /** It refuses what does not meet a condition; else that is looked at before, which keeps no two writers apart. */
  readonly conditionalWrites: boolean;
  /** Undefined: nobody in particular (a public bucket). Throws CommandError for a secret that is not there. */
  credentials(this: void): Credentials | undefined;
}

/** What the driver works with. */
export interface S3Options extends StoreOptions {
  readonly place: ObjectPlace;
  /** The place, for messages. */
  readonly url: string;
  /** Of disks that are made, bytes; undefined: by what they are for. */
  readonly chunkBytes: number | undefined;
  readonly etag: string | undefined;
  readonly cacheBytes: number;
  readonly readaheadBytes: number;
  readonly connections: number;
}

/** Bytes of a chunk of a disk that is written in place. */
export const CHUNK_BYTES = MiB;
/** Bytes of a chunk that becomes a part of an object: S3 takes none below 5 MiB. */
export const PART_BYTES = 8 * MiB;

type Graph = Pick<GraphView, "secrets" | "host">;

function environment(host: Host, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = host.environment?.(name);
    if (value !== undefined && value !== "") return value;
  }
  return undefined;
}

function endpointOption(spec: NodeSpec, host: Host): string | undefined {
  const text = stringOption(spec, "endpoint") ?? environment(host, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  if (text === undefined) return undefined;
  if (!URL.canParse(text) || !/^https?:/i.test(text))
    throw optionError("Parameter 'endpoint' expects a URL of http or https");
  const url = new URL(text);
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw optionError("Parameter 'endpoint' expects a URL without user, password and query");
  return url.href.replace(/\/+$/, "");
}

function credentialsOption(spec: NodeSpec, { secrets, host }: Graph): () => Credentials | undefined {
  const secret = (option: string): string | undefined => {
    const id = stringOption(spec, option);
    return id === undefined ? undefined : new TextDecoder().decode(secrets.lookupText(id)).trim();
  };
  return () => {
    const accessKeyId = stringOption(spec, "access-key-id") ?? environment(host, "AWS_ACCESS_KEY_ID");
    const isOwn = stringOption(spec, "secret-access-key") !== undefined;
    const secretAccessKey = secret("secret-access-key") ?? environment(host, "AWS_SECRET_ACCESS_KEY");
    // A token belongs to its key.
    const sessionToken =
      secret("session-token") ?? (isOwn ? undefined : environment(host, "AWS_SESSION_TOKEN"));
    if (accessKeyId === undefined && secretAccessKey === undefined) return undefined;
    if (accessKeyId === undefined)
      throw optionError("Parameter 'access-key-id' is missing: there is a secret key for nobody");
    if (secretAccessKey === undefined)
      throw optionError(
        "Parameter 'secret-access-key' is missing: it names a secret, or AWS_SECRET_ACCESS_KEY holds the key",
      );
    return { accessKeyId, secretAccessKey, sessionToken };
  };
}

function placeOption(spec: NodeSpec): ObjectPlace {
  const url = stringOption(spec, "url");
  const [bucket, key] = [stringOption(spec, "bucket"), stringOption(spec, "key")];
  if (url !== undefined && bucket === undefined && key === undefined) return placeOf(url);
  if (url !== undefined) throw optionError("Parameter 'url' can't be used together with 'bucket' and 'key'");
  if (bucket === undefined) throw optionError("Parameter 'url' is missing");
  if (key === undefined || key === "") throw optionError("Parameter 'key' is missing");
  return placeOf(urlOf({ bucket, key }));
}

function formOption(spec: NodeSpec): "object" | "chunks" {
  const form = stringOption(spec, "form") ?? "object";
  if (form === "object" || form === "chunks") return form;
  throw optionError(`Parameter 'form' does not accept value '${form}'`);
}

function chunkOption(spec: NodeSpec): number | undefined {
  const bytes = sizeOption(spec, "chunk-size");
  if (bytes === undefined || (isPowerOfTwo(bytes) && bytes >= 64 * KiB && bytes <= 512 * MiB)) return bytes;
  throw optionError("Parameter 'chunk-size' expects a power of two from 64 KiB to 512 MiB");
}

/** The options that say where the store is. */
export function storeOptions(spec: NodeSpec, graph: Graph): StoreOptions {
  const endpoint = endpointOption(spec, graph.host);
  const region =
    stringOption(spec, "region") ??
    environment(graph.host, "AWS_REGION", "AWS_DEFAULT_REGION") ??
    "us-east-1";
  if (!/^[a-z0-9-]{1,64}$/i.test(region))
    throw optionError("Parameter 'region' expects the name of a region");
  return {
    endpoint: endpoint ?? `https://s3.${region}.amazonaws.com`,
    region,
    pathStyle: flagOption(spec, "path-style") ?? endpoint !== undefined,
    conditionalWrites: flagOption(spec, "conditional-writes") ?? true,
    credentials: credentialsOption(spec, graph),
    timeoutMs: numberWithin(spec, "timeout", { byDefault: 15, least: 1, most: 86_400 }) * 1000,
    deadlineMs: numberWithin(spec, "deadline", { byDefault: 60, least: 1, most: 86_400 }) * 1000,
    retries: numberWithin(spec, "retries", { byDefault: 3, least: 0, most: 100 }),
  };
}

function numbersRead(given: NodeSpec): NodeSpec {
  return withNumbers(given, [
    ...["chunk-size", "cache-size", "readahead", "connections", "timeout", "deadline", "retries"],
  ]);
}

/** What a draft becomes, and the bytes of its chunks. EINVAL. */
export function draftOptions(given: NodeSpec): { form: "object" | "chunks"; chunkBytes: number } {
  const spec = numbersRead(given);
  const form = formOption(spec);
  return { form, chunkBytes: chunkOption(spec) ?? (form === "object" ? PART_BYTES : CHUNK_BYTES) };
}

/** Reads all options. EINVAL. */
export function s3Options(given: NodeSpec, graph: Graph): S3Options {
  const spec = numbersRead(given);
  const place = placeOption(spec);
  // Refused in every use.
  formOption(spec);
  const most = limits.httpMaxCacheBytes;
  return {
    ...storeOptions(spec, graph),
    place,
    url: urlOf(place),
    chunkBytes: chunkOption(spec),
    etag: stringOption(spec, "etag"),
    cacheBytes: numberWithin(spec, "cache-size", { byDefault: 32 * MiB, least: 0, most }),
    readaheadBytes: numberWithin(spec, "readahead", { byDefault: MiB, least: 0, most }),
    connections: numberWithin(spec, "connections", { byDefault: 4, least: 1, most: 64 }),
  };
}
