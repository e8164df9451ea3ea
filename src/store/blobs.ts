/**
 * Blobs into and out of packs: compressed where that is shorter, checked against their names when they are read.
 */
import { blockError, messageOf } from "../base/errors.ts";
import { MiB } from "../base/limits.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import { type Blob, Codec, type Place } from "./pack.ts";
import { applyPatch, blockOf, parsePatch, restBytes } from "./patch.ts";
import { hex, isSame, type StoreTools } from "./tools.ts";

/** zstd's own default, which QEMU takes too. */
export const DEFAULT_LEVEL = 3;

/** Bytes as they are stored. */
export type Stored = Pick<Blob, "stored" | "codec">;

/** Makes blobs of contents. */
export class BlobMaker {
  readonly #tools: StoreTools;
  readonly #level: number;
  /** zstd can be written here; undefined: nobody has tried. */
  #hasZstd: boolean | undefined;

  /** `level`: of zstd, 1 … 22. */
  constructor(tools: StoreTools, level = DEFAULT_LEVEL) {
    this.#tools = tools;
    this.#level = level;
  }

  /** Compresses a content of a known hash; the answer does not refer to `content` any more. */
  async make(hash: Uint8Array, content: Uint8Array): Promise<Blob> {
    return { hash, contentBytes: content.byteLength, ...(await this.store(content)) };
  }

  /** A content as it is to be stored. */
  async store(content: Uint8Array): Promise<Stored> {
    return (await this.#compress(content)) ?? { stored: content.slice(), codec: Codec.none };
  }

  async #compress(content: Uint8Array): Promise<Stored | undefined> {
    const { codecs } = this.#tools;
    // An eighth is what it must gain: reading it costs time.
    const limit = content.byteLength - Math.floor(content.byteLength / 8);
    if (codecs.compressZstd && this.#hasZstd !== false) {
      try {
        const stored = await codecs.compressZstd(content, limit, this.#level);
        this.#hasZstd = true;
        return stored && { stored, codec: Codec.zstd };
      } catch (error) {
        if (this.#hasZstd) throw error;
        this.#hasZstd = false;
      }
    }
    const stored = await codecs.deflateRaw(content, limit);
    return stored && { stored, codec: Codec.deflate };
  }
}

/** Answers a blob's content for sure, or nothing. */
export type Elsewhere = (hash: Uint8Array) => Promise<Uint8Array | undefined> | undefined;

/** Reads what is stored, and builds contents of it. */
export class BlobReader {
  readonly #tools: StoreTools;
  readonly #index: ChunkIndex;
  readonly #elsewhere: Elsewhere | undefined;
  readonly #gathering: Gathering | undefined;
  /** Contents that patches needed, by their hashes; those that were needed last stay. */
  readonly #bases = new Map<string, Promise<Uint8Array>>();

  /** `elsewhere`: has contents that others are built of; `gathers`: nobody waits for one read, but for many. */
  constructor(
    tools: StoreTools,
    index: ChunkIndex,
    { elsewhere, gathers = false }: { elsewhere?: Elsewhere; gathers?: boolean } = {},
  ) {
    this.#tools = tools;
    this.#index = index;
    this.#elsewhere = elsewhere;
    this.#gathering = gathers ? new Gathering() : undefined;
  }

  /** The content of a blob. Throws EIO, which says what is missing or damaged, and where. */
  async read(hash: Uint8Array): Promise<Uint8Array> {
    return (await this.open(hash)).content;
  }

  /** A blob as it is stored, and its content. Throws as read() does. */
  async open(hash: Uint8Array): Promise<{ place: Place; stored: Uint8Array; content: Uint8Array }> {
    const place = this.#index.require(hash);
    const { stored, content } = await this.#open(place).catch((error: unknown) => {
      throw blockError(
        "EIO",
        "chunk",
        `chunk ${hex(hash)} in '${place.pack}' can't be read: ${messageOf(error)}`,
      );
    });
    const found = this.#tools.sha256(content);
    if (isSame(hash, found)) return { place, stored, content };
    throw blockError(
      "EIO",
      "chunk",
      `chunk ${hex(hash)} in '${place.pack}' is damaged: it holds something else`,
    );
  }

  /** The content of a blob that others are built of; it is not to be changed. */
  base(hash: Uint8Array): Promise<Uint8Array> {
    const name = hex(hash);
    const content = this.#bases.get(name) ?? this.#base(hash);
    this.#bases.delete(name);
    this.#bases.set(name, content);
    content.catch(() => this.#bases.delete(name));
    for (const oldest of this.#bases.keys()) {
      if (this.#bases.size <= BASES_KEPT) break;
      this.#bases.delete(oldest);
    }
    return content;
  }

  async #base(hash: Uint8Array): Promise<Uint8Array> {
    return (await this.#elsewhere?.(hash)) ?? this.read(hash);
  }

  /** The bytes of a place as they are stored, held against their digest. */
  async #stored({ pack, offset, storedBytes, xxh3 }: Place): Promise<Uint8Array> {
    const stored = await this.#tools.objects.get(pack, { offset, bytes: storedBytes });
    if (stored.byteLength === storedBytes && this.#tools.xxh3(stored) === xxh3) return stored;
    throw blockError("EIO", "chunk", "its bytes are not what was written");
  }

  async #open(place: Place): Promise<{ stored: Uint8Array; content: Uint8Array }> {
    const read = (): Promise<Uint8Array> => this.#stored(place);
    const stored = await (this.#gathering?.after(read) ?? read());
    const isPatch = place.codec === Codec.patch;
    const content = await (isPatch ? this.#build(place, stored) : unpack(this.#tools, { ...place, stored }));
    return { stored, content };
  }

  async #build(place: Place, stored: Uint8Array): Promise<Uint8Array> {
    const patch = parsePatch(stored, place.contentBytes);
    for (const base of patch.bases)
      if (this.#index.require(base).codec === Codec.patch)
        throw blockError("EIO", "chunk", "it is a patch of a patch");
    const bases = await Promise.all(patch.bases.map((base) => this.base(base)));
    const contentBytes = restBytes(patch, place.contentBytes);
    const rest = await unpack(this.#tools, { codec: patch.codec, stored: patch.rest, contentBytes });
    const content = new Uint8Array(place.contentBytes);
    applyPatch(patch, { rest, content }, (base, block) => blockOf(bases[base]!, block));
    return content;
  }
}

/** Those who read go on together, since threads take care of several streams at once, and of none that comes alone. */
class Gathering {
  #coming = 0;
  readonly #waiting: (() => void)[] = [];

  async after<T>(read: () => Promise<T>): Promise<T> {
    let others: Promise<void> | undefined;
    this.#coming += 1;
    try {
      const result = await read();
      others = new Promise((resolve) => this.#waiting.push(resolve));
      return result;
    } finally {
      this.#coming -= 1;
      const isTime = this.#coming === 0 || this.#waiting.length >= TOGETHER;
      if (isTime) for (const goOn of this.#waiting.splice(0)) goOn();
      await others;
    }
  }
}

/** Who has read waits for so many at most. */
const TOGETHER = 8;

/** Contents that patches needed and that are kept: 16 MiB. */
const BASES_KEPT = (16 * MiB) / 65536;

/** The content of what is no patch. Throws EIO for what is damaged, and ENOTSUP for codecs that nothing here reads. */
export async function unpack(
  { codecs }: StoreTools,
  { stored, codec, contentBytes }: Stored & Pick<Blob, "contentBytes">,
): Promise<Uint8Array> {
  if (codec === Codec.none) return stored;
  if (codec !== Codec.deflate && !(codec === Codec.zstd && codecs.decompressZstd))
    throw blockError("ENOTSUP", "chunk", `nothing here reads its codec (${codec})`);
  const content = new Uint8Array(contentBytes);
  const bytes = await (codec === Codec.zstd
    ? codecs.decompressZstd!(stored, content)
    : codecs.inflateRaw(stored, content));
  if (bytes !== contentBytes)
    throw blockError("EIO", "chunk", `it holds ${bytes} bytes instead of ${contentBytes}`);
  return content;
}
