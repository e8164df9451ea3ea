/**
 * The names of images in registries: `oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:…]`, with options of the driver behind a question mark.
 * Source: the reference grammar of the OCI distribution specification.
 */
import { CommandError } from "../../../../base/errors.ts";
import type { ParsedName } from "../../../../block/model/contract.ts";

const IN_NAMES = new Set([
  ...["path", "platform", "plain-http", "cache-dir"],
  ...["cache-size", "readahead", "connections", "timeout", "deadline", "retries"],
]);

function refuse(name: string, why: string): CommandError {
  return new CommandError(`'${name.replace(/\?.*/s, "")}': ${why}`);
}

/** Reads a name. Throws CommandError. */
export function parseOciName(name: string): ParsedName {
  const [, url = "", query = ""] = /^([^?]*)(?:\?(.*))?$/s.exec(name) ?? [];
  imageOf(url);
  const options: Record<string, string> = { url };
  for (const part of query.split("&").filter((text) => text !== "")) {
    const [key = "", ...value] = part.split("=");
    if (!IN_NAMES.has(key)) throw refuse(name, `a name of an image has no option '${key}'`);
    try {
      options[key] = decodeURIComponent(value.join("="));
    } catch {
      throw refuse(name, "it is not percent-encoded as a URL is");
    }
  }
  return { options };
}

/** Which image. */
export interface ImageName {
  /** Host and port. */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
  readonly digest: string | undefined;
}

const COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const NAME = new RegExp(
  `^oci://([A-Za-z0-9.-]+(?::\\d{1,5})?|\\[[0-9a-fA-F:]+\\](?::\\d{1,5})?)/(${COMPONENT}(?:/${COMPONENT})*)` +
    "(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$",
);

/** Reads a URL. Throws CommandError. */
export function imageOf(url: string): ImageName {
  const [, registry, repository = "", tag = "latest", digest] = NAME.exec(url) ?? [];
  if (registry === undefined || repository.length > 255)
    throw refuse(url.replace(/\/\/[^/@]*@/, "//"), "expecting oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:…]");
  return { registry, repository, tag, digest };
}

/** The name that says as much as the options. */
export function plainOciName(options: Readonly<Record<string, unknown>>): string | undefined {
  const { url, ...others } = options;
  if (typeof url !== "string") return undefined;
  const parts = Object.entries(others).map(([key, value]) => `${key}=${encodeURIComponent(String(value))}`);
  return parts.length === 0 ? url : `${url}?${parts.join("&")}`;
}
