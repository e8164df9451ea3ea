/**
 * Manifests: which layers an image has. Invariant: what was asked for by its digest has it. Source: OCI image specification 1.0; Docker's
 * manifests, version 2.
 */
import { BlockError, blockError } from "../../../../base/errors.ts";
import { hexDigest } from "./digest.ts";
import type { OciOptions } from "./options.ts";
import { bodyBytes, type Registry } from "./registry.ts";

/** A blob as a manifest tells of it. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Types of images and of indexes of images. */
export const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const ACCEPT = [
  MANIFEST_TYPE,
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
].join(", ");

const MOST_BYTES = 4 * 2 ** 20;

function broken(url: string, what: string): BlockError {
  return new BlockError({ code: "EIO", op: "open", message: `${url}: ${what}` });
}

function descriptors(url: string, value: unknown): Descriptor[] {
  if (!Array.isArray(value)) throw broken(url, "that is no manifest of an image");
  return value.map((one: unknown) => {
    const { mediaType, digest, size } = (one ?? {}) as Record<string, unknown>;
    const isRight =
      typeof mediaType === "string" &&
      typeof digest === "string" &&
      /^sha256:[0-9a-f]{64}$/.test(digest) &&
      Number.isSafeInteger(size) &&
      (size as number) >= 0;
    if (!isRight) throw broken(url, "the manifest tells of a blob without type, size or SHA-256");
    return { mediaType, digest, size: size as number };
  });
}

/** The layers of an image, the lowest first. */
export async function layersOf(registry: Registry, options: OciOptions): Promise<Descriptor[]> {
  const { url, image, platform } = options;
  const first = await read(registry, url, image.digest ?? image.tag);
  if (!Array.isArray(first["manifests"])) return descriptors(url, first["layers"]);
  const [os, architecture] = platform.split("/");
  const isFor = (one: unknown): boolean => {
    const found = (one as { platform?: { os?: string; architecture?: string } } | null)?.platform;
    return found?.os === os && found?.architecture === architecture;
  };
  const all: unknown[] = first["manifests"];
  const [chosen] = descriptors(url, all.filter(isFor));
  const only = all.length === 1 ? descriptors(url, all)[0] : undefined;
  const found = chosen ?? only;
  if (!found) throw blockError("ENOENT", "open", `${url}: there is no image for ${platform}`);
  return descriptors(url, (await read(registry, url, found.digest))["layers"]);
}

async function read(registry: Registry, url: string, reference: string): Promise<Record<string, unknown>> {
  const request = { method: "GET", path: `manifests/${reference}`, headers: { Accept: ACCEPT } } as const;
  return registry.request(request, async (response) => {
    const bytes = await bodyBytes(response, MOST_BYTES);
    const told = reference.startsWith("sha256:") ? reference : response.headers.get("docker-content-digest");
    if (told?.startsWith("sha256:") && told !== (await hexDigest(bytes)))
      throw broken(url, "the manifest is not what its digest says");
    try {
      const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
      if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
    } catch {
      // Said below.
    }
    throw broken(url, "that is no manifest of an image");
  });
}
