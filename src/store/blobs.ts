/**
 * Blobs into and out of packs: compressed where that is shorter, checked against their names when they are read.
 */
import { blockError, messageOf } from "../base/errors.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import { type Blob, Codec, type Place } from "./pack.ts";
import { hex, type StoreTools } from "./tools.ts";

/** zstd's own default, which QEMU takes too. */
export const DEFAULT_LEVEL = 3;

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
    const contentBytes = content.byteLength;
    const packed = await this.#compress(content);
    return packed
      ? { hash, contentBytes, ...packed }
      : { hash, contentBytes, stored: content.slice(), codec: Codec.none };
  }

  async #compress(content: Uint8Array): Promise<{ stored: Uint8Array; codec: number } | undefined> {
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

/** The content of a blob. Throws EIO, which says what is missing or damaged, and where. */
export async function readBlob(tools: StoreTools, index: ChunkIndex, hash: Uint8Array): Promise<Uint8Array> {
  const place = index.require(hash);
  const content = await readPlace(tools, place).catch((error: unknown) => {
    throw blockError(
      "EIO",
      "chunk",
      `chunk ${hex(hash)} in '${place.pack}' can't be read: ${messageOf(error)}`,
    );
  });
  const found = tools.sha256(content);
  if (hash.every((byte, at) => byte === found[at])) return content;
  throw blockError(
    "EIO",
    "chunk",
    `chunk ${hex(hash)} in '${place.pack}' is damaged: it holds something else`,
  );
}

async function readPlace(tools: StoreTools, place: Place): Promise<Uint8Array> {
  const { pack, offset, storedBytes, contentBytes, codec } = place;
  const stored = await tools.objects.get(pack, { offset, bytes: storedBytes });
  if (stored.byteLength !== storedBytes || tools.xxh3(stored) !== place.xxh3)
    throw blockError("EIO", "chunk", "its bytes are not what was written");
  if (codec === Codec.none) return stored;
  const content = new Uint8Array(contentBytes);
  const { codecs } = tools;
  if (codec !== Codec.deflate && !(codec === Codec.zstd && codecs.decompressZstd))
    throw blockError("ENOTSUP", "chunk", `nothing here reads its codec (${codec})`);
  const bytes = await (codec === Codec.zstd
    ? codecs.decompressZstd!(stored, content)
    : codecs.inflateRaw(stored, content));
  if (bytes !== contentBytes)
    throw blockError("EIO", "chunk", `it holds ${bytes} bytes instead of ${contentBytes}`);
  return content;
}
