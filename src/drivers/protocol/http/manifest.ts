/**
 * The manifest of a remote disk: loaded once at the opening, asked for every cluster that comes.
 */
import { BlockError, messageOf, blockError } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import type { OpenContext } from "../../../block/model/contract.ts";
import { type Manifest, parseManifest } from "../../../wire/manifest.ts";
import { ask } from "./account.ts";
import type { Attempts } from "./attempts.ts";
import { discardBody, eachChunk } from "./body.ts";
import type { HttpOptions } from "./options.ts";
import { badAnswer } from "./validate.ts";

/** The manifest that the options name or hold. ImageError for a bad one; ENOENT, EIO … where it can't be had. */
export async function loadManifest(
  context: OpenContext,
  options: HttpOptions,
  attempts: Attempts,
): Promise<Manifest | undefined> {
  const { manifest } = options;
  if (manifest === undefined) return undefined;
  const { kernels, host } = context;
  let bytes: Uint8Array;
  try {
    bytes =
      typeof manifest !== "string"
        ? manifest
        : host.http?.base === undefined && !/^https?:/i.test(manifest)
          ? await readFile(context, manifest)
          : await fetchAll(context, { options, url: new URL(manifest, host.http?.base).href, attempts });
  } catch (error) {
    const code = error instanceof BlockError ? error.code : "EIO";
    const message = `Could not read the manifest '${manifest.toString().slice(0, 200)}': ${messageOf(error)}`;
    throw new BlockError({ code, op: "open", message, cause: error });
  }
  return parseManifest(bytes, (content) => kernels.xxh3(content));
}

async function readFile({ host }: OpenContext, filename: string): Promise<Uint8Array> {
  const file = await host.files.open(filename, { write: false });
  try {
    const bytes = new Uint8Array(checked(await file.size()));
    await file.read(bytes, 0);
    return bytes;
  } finally {
    await file.close();
  }
}

function fetchAll(
  { host }: OpenContext,
  { options, url, attempts }: { options: HttpOptions; url: string; attempts: Attempts },
): Promise<Uint8Array> {
  return attempts.run(url, async (attempt) => {
    const response = await ask(host.http!, options, { url, attempt });
    if (response.status !== 200) {
      await discardBody(response);
      const message = `HTTP status ${response.status}`;
      throw response.status === 404 ? blockError("ENOENT", "open", message) : badAnswer(url, message);
    }
    const chunks: Uint8Array[] = [];
    let total = 0;
    await eachChunk(response, (chunk) => {
      attempt.progress();
      total = checked(total + chunk.byteLength);
      chunks.push(chunk);
    });
    const bytes = new Uint8Array(total);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.byteLength;
    }
    return bytes;
  });
}

function checked(bytes: number): number {
  if (bytes <= limits.httpMaxManifestBytes) return bytes;
  throw blockError("EFBIG", "open", "it is too large (limits.httpMaxManifestBytes)");
}
