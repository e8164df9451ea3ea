/**
 * The options of the oci driver, read and checked.
 *
 * Invariant: the password is asked for when it is needed, and is in no message.
 */
import { KiB, MiB, limits } from "../../../../base/limits.ts";
import type { GraphView, NodeSpec } from "../../../../block/model/contract.ts";
import { optionError, stringOption } from "../../../../block/model/options.ts";
import type { Patience } from "../attempts.ts";
import { flagOption, numberWithin, withNumbers } from "../numbers.ts";
import { imageOf, type ImageName } from "./names.ts";

/** What the driver works with. */
export interface OciOptions extends Patience {
  readonly url: string;
  readonly image: ImageName;
  /** Where requests go: scheme, host and port. */
  readonly origin: string;
  /** The path of the disk in its layer; undefined: the one file below /disk/, or a layer that is the disk. */
  readonly path: string | undefined;
  /** Operating system and architecture, of an index of images. */
  readonly platform: string;
  /** Base64 of user and password. Throws CommandError for a secret that is not there. */
  login(this: void): string | undefined;
  readonly cacheDirectory: string | undefined;
  readonly cacheBytes: number;
  readonly readaheadBytes: number;
  readonly connections: number;
}

/** Registries on the same machine speak without TLS. */
const LOCAL = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/;

/** Reads all options. EINVAL. */
export function ociOptions(given: NodeSpec, { secrets }: Pick<GraphView, "secrets">): OciOptions {
  const spec = withNumbers(given, [
    "cache-size",
    "readahead",
    "connections",
    "timeout",
    "deadline",
    "retries",
  ]);
  const url = stringOption(spec, "url");
  if (url === undefined) throw optionError("Parameter 'url' is missing");
  const image = imageOf(url);
  const isPlain = flagOption(spec, "plain-http") ?? LOCAL.test(image.registry);
  const most = limits.httpMaxCacheBytes;
  return {
    ...{ url, image, origin: `${isPlain ? "http" : "https"}://${image.registry}` },
    path: stringOption(spec, "path")?.replace(/^\/+/, ""),
    platform: stringOption(spec, "platform") ?? "linux/amd64",
    login: () => loginOf(spec, secrets),
    cacheDirectory: stringOption(spec, "cache-dir"),
    cacheBytes: numberWithin(spec, "cache-size", { byDefault: 8 * MiB, least: 0, most }),
    readaheadBytes: numberWithin(spec, "readahead", { byDefault: 256 * KiB, least: 0, most }),
    connections: numberWithin(spec, "connections", { byDefault: 4, least: 1, most: 16 }),
    timeoutMs: numberWithin(spec, "timeout", { byDefault: 15, least: 1, most: 86_400 }) * 1000,
    deadlineMs: numberWithin(spec, "deadline", { byDefault: 60, least: 1, most: 86_400 }) * 1000,
    retries: numberWithin(spec, "retries", { byDefault: 3, least: 0, most: 100 }),
  };
}

function loginOf(spec: NodeSpec, secrets: GraphView["secrets"]): string | undefined {
  const [name, id] = [stringOption(spec, "username"), stringOption(spec, "password-secret")];
  if (name === undefined && id === undefined) return undefined;
  if (name === undefined) throw optionError("Parameter 'username' is missing");
  const password = id === undefined ? "" : new TextDecoder().decode(secrets.lookupText(id));
  return btoa(String.fromCharCode(...new TextEncoder().encode(`${name}:${password}`)));
}
