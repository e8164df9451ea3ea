/**
 * Disks out of compressed layers. A layer is read through once, its digest is checked, and the disk is kept as a sparse file beside
 * a small index (`blockwright-oci-DIGEST.json`: which file, of how many bytes) in a folder of the user's own; who opens it again reads the file.
 *
 * Invariants: an index is written last, so that what it names is whole and came of a layer with the digest in its name. Source: OCI image
 * specification (media types of layers).
 */
import { BlockError, blockError, errnoOf } from "../../../../base/errors.ts";
import type { Host, HostFile, HttpResponse } from "../../../../base/host.ts";
import { limits } from "../../../../base/limits.ts";
import { inHex } from "./digest.ts";
import { Forward } from "./forward.ts";
import type { Descriptor } from "./manifest.ts";
import type { OciOptions } from "./options.ts";
import type { Registry } from "./registry.ts";
import { type Member, members, severalDisks } from "./tar.ts";

/** What is looked for, and where. */
export interface Wanted {
  readonly host: Host;
  readonly options: OciOptions;
  readonly registry: Registry;
  readonly layer: Descriptor;
  readonly kind: "tar+gzip" | "tar+zstd";
  readonly isDisk: (member: Member) => boolean;
}

/** A disk in the cache. */
export interface CachedDisk {
  readonly file: HostFile;
  readonly size: number;
}

interface Index {
  readonly layer: string;
  readonly file: string;
  readonly size: number;
  readonly data: string;
}

function folderOf({ host, options }: Wanted): string {
  const home = host.environment?.("HOME");
  const folder =
    options.cacheDirectory ?? host.environment?.("XDG_CACHE_HOME") ?? (home ? `${home}/.cache` : "");
  if (folder !== "") return folder;
  throw blockError(
    "ENOTSUP",
    "open",
    "its layer is compressed: give 'cache-dir', a folder of your own to keep it in",
  );
}

/** Opens the disk of a compressed layer, reading the layer first if nobody has. Undefined: the layer has none. */
export async function cachedDisk(wanted: Wanted): Promise<CachedDisk | undefined> {
  const { host, layer, options } = wanted;
  const base = `${folderOf(wanted)}/blockwright-oci-${layer.digest.slice("sha256:".length)}`;
  const name = `${base}${options.path === undefined ? "" : `-${encodeURIComponent(options.path)}`}.json`;
  const known = await readIndex(host, name, wanted);
  const index = known ?? (await fill(wanted, base));
  if (!index) return undefined;
  if (!known) await writeWhole(host, name, new TextEncoder().encode(JSON.stringify(index)));
  return { file: await host.files.open(index.data, { write: false }), size: index.size };
}

async function readIndex(
  { files }: Host,
  name: string,
  { layer, isDisk }: Wanted,
): Promise<Index | undefined> {
  try {
    const file = await files.open(name, { write: false });
    try {
      const bytes = new Uint8Array(Math.min(await file.size(), 65_536));
      await file.read(bytes, 0);
      const index = JSON.parse(new TextDecoder().decode(bytes)) as Index;
      const isRight = index.layer === layer.digest && isDisk({ name: index.file, offset: 0, size: 0 });
      return isRight && (await files.info(index.data)).size === index.size ? index : undefined;
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}

async function writeWhole({ files }: Host, name: string, bytes: Uint8Array): Promise<void> {
  await files.create(name, { size: 0 });
  const file = await files.open(name, { write: true });
  try {
    await file.write(bytes, 0);
    await file.flush();
  } finally {
    await file.close();
  }
}

/** Reads the layer through. */
async function fill(wanted: Wanted, base: string): Promise<Index | undefined> {
  const { host, registry, layer, options } = wanted;
  host.diagnostics?.warn(
    `${options.url}: its layer of ${layer.size} bytes is compressed, and is read through once, into ${base}*`,
    "BLOCKWRIGHT_OCI_PULL",
  );
  const data = `${base}-${host.random.below(2 ** 32).toString(36)}.disk`;
  const request = { method: "GET", path: `blobs/${layer.digest}` } as const;
  return registry.request(request, async (response) => {
    await host.files.create(data, { size: 0, exclusive: true }).catch((cause: unknown) => {
      throw new BlockError({
        code: errnoOf(cause),
        op: "open",
        message: `'${data}' can't be made (give 'cache-dir')`,
        cause,
      });
    });
    const file = await host.files.open(data, { write: true });
    let found: Member | undefined;
    try {
      found = await unpack(wanted, response, file);
      await file.flush();
    } finally {
      await file.close();
      if (!found) await host.files.remove(data).catch(() => undefined);
    }
    return found && { layer: layer.digest, file: found.name, size: found.size, data };
  });
}

async function unpack(wanted: Wanted, response: HttpResponse, file: HostFile): Promise<Member | undefined> {
  const { host, layer, isDisk, options } = wanted;
  const hasher = (await host.crypto?.())?.hasher?.("sha256");
  if (!hasher) throw blockError("ENOTSUP", "open", "This platform can't check a layer's digest");
  const stream = new Forward(unpacked(wanted, response, (bytes) => hasher.update(bytes)));
  let found: Member | undefined;
  for await (const member of members((offset, bytes) => stream.read(offset, bytes), limits.maxImageBytes)) {
    if (!isDisk(member) || (found && options.path !== undefined)) continue;
    if (found) throw severalDisks(found, member);
    found = member;
    await stream.copy(member, file);
  }
  await stream.end();
  const digest = inHex(hasher.digest());
  if (digest === layer.digest) return found;
  throw blockError("EIO", "open", `${options.url}: the layer is not what its digest says`);
}

/** What a compressed body unpacks to; `seen` gets the body. */
async function* unpacked(
  { kind, host }: Wanted,
  { body }: HttpResponse,
  seen: (bytes: Uint8Array) => void,
): AsyncGenerator<Uint8Array> {
  if (!body) return;
  const watched = body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        seen(chunk);
        controller.enqueue(chunk);
      },
    }),
  );
  if (kind === "tar+gzip") {
    yield* watched.pipeThrough(
      new DecompressionStream("gzip") as ReadableWritablePair<Uint8Array, Uint8Array>,
    );
    return;
  }
  const { zstdStream } = host.codecs;
  if (!zstdStream)
    throw blockError("ENOTSUP", "open", "This platform reads no layers that zstd has compressed");
  yield* zstdStream(watched);
}
