/**
 * Disks out of compressed layers. A layer is read through once, its digest is checked, and the disk is kept as a sparse file beside
 * a small index (`blockwright-oci-DIGEST.json`: which file, of how many bytes) in a folder of the user's own; who opens it again reads the file.
 *
 * Invariants: an index is written last, so that what it names is whole and came of a layer with the digest in its name. Source: OCI image
 * specification (media types of layers).
 */
import { BlockError, blockError, errnoOf } from "../../../../base/errors.ts";
import type { Host, HostFile, HttpResponse } from "../../../../base/host.ts";
import { SECTOR_SIZE, limits } from "../../../../base/limits.ts";
import { alignUp } from "../../../../base/ranges.ts";
import type { BlockDriver, BlockStatus, NodeView } from "../../../../block/model/contract.ts";
import { inHex } from "./digest.ts";
import type { Descriptor } from "./manifest.ts";
import type { OciOptions } from "./options.ts";
import type { Registry } from "./registry.ts";
import { type Member, members } from "./tar.ts";

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

/** Bytes of a piece that is left out where it is all zeroes. */
const HOLE = 4096;

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
    if (found || !isDisk(member)) continue;
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

/** Reads a stream forward. */
class Forward {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);
  /** Where the piece begins. */
  #at = 0;

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  async #next(): Promise<boolean> {
    const next = await this.#pieces.next();
    if (next.done) return false;
    this.#at += this.#piece.byteLength;
    this.#piece = next.value;
    return true;
  }

  /** The next bytes that are there, from `offset` on, at most so many. Undefined: the stream has ended. */
  async #some(offset: number, most: number): Promise<Uint8Array | undefined> {
    while (offset >= this.#at + this.#piece.byteLength) if (!(await this.#next())) return undefined;
    return this.#piece.subarray(offset - this.#at, offset - this.#at + most);
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    const buffer = new Uint8Array(bytes);
    // An archive may end without its last blocks: they are zeroes.
    for (let done = 0; done < bytes;) {
      const some = await this.#some(offset + done, bytes - done);
      if (!some) break;
      buffer.set(some, done);
      done += some.byteLength;
    }
    return buffer;
  }

  /** Writes a member's content into a file; runs of zeroes are left out. */
  async copy({ offset, size }: Member, file: HostFile): Promise<void> {
    for (let done = 0; done < size;) {
      const most = Math.min(size - done, HOLE - (done % HOLE));
      const some = await this.#some(offset + done, most);
      if (!some) throw blockError("EIO", "open", "the layer ends in the middle of the disk");
      if (some.some((byte) => byte !== 0)) await file.write(some, done);
      done += some.byteLength;
    }
    await file.truncate(size);
  }

  async end(): Promise<void> {
    while (await this.#next());
  }
}

/** A disk in a file of the cache. */
export class CachedDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #disk: CachedDisk;
  readonly #closeRest: () => void;

  constructor(node: NodeView, disk: CachedDisk, closeRest: () => void) {
    this.#node = node;
    this.#disk = disk;
    this.#closeRest = closeRest;
  }

  length(): number {
    return alignUp(this.#disk.size, SECTOR_SIZE);
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    const count = await this.#disk.file.read(buffer, offset);
    buffer.fill(0, count);
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const extent = await this.#disk.file.extentAt(offset);
    const data = extent?.data ?? true;
    const map = { node: this.#node, offset };
    return { bytes: Math.min(bytes, extent?.bytes ?? bytes), data, zero: !data, allocated: true, map };
  }

  setReadOnly(readOnly: boolean): Promise<void> {
    if (readOnly) return Promise.resolve();
    return Promise.reject(blockError("EACCES", "reopen", "an image in a registry is not written in place"));
  }

  async close(): Promise<void> {
    this.#closeRest();
    await this.#disk.file.close();
  }
}
