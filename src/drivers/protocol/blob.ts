/**
 * blob: a Blob or File as a read-only disk, in browsers (what a user picked, what a fetch brought) and in Node
 * (`fs.openAsBlob`). Ranges are read as they are asked for, small ones with what lies around them, since a browser takes a
 * millisecond for a read of 4 KiB as of 64.
 * Invariants: the length is the Blob's and never changes; a file that was changed or removed behind the Blob's back is EIO,
 * for what is not in the cache; an overlay remembers the size, and a file's name and date, and is not opened over another; the cache holds MOST_BLOCKS blocks at most, and nothing that failed.
 * Source: W3C File API, sections 3 (Blob) and 7 (errors).
 */
import type { Answer } from "../../base/answer.ts";
import { BlockError, blockError } from "../../base/errors.ts";
import { KiB } from "../../base/limits.ts";
import type { BlockDriver, BlockStatus, DriverType } from "../../block/model/contract.ts";
import type { ContentVersion, NodeView, VersionedStorage } from "../../block/model/contract.ts";
import { optionError } from "../../block/model/options.ts";

/** What is read and kept together. */
const BLOCK_BYTES = 64 * KiB;
/** 8 MiB for each disk. */
const MOST_BLOCKS = 128;
/** What the URL of a version begins with that is a Blob's; a file's name follows. */
const SCHEME = "blob:";

class BlobDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #blob: Blob;
  /** Blocks by number, in order of use, the latest last; promises while they are under way. */
  readonly #blocks = new Map<number, Uint8Array | Promise<Uint8Array>>();
  /** The block that was used last: reads that follow each other leave the order as it is. */
  #latest = -1;
  readonly versions: VersionedStorage = {
    version: () => this.#version(),
    demand: (version) => this.#demand(version),
  };

  constructor(node: NodeView, blob: Blob) {
    this.#node = node;
    this.#blob = blob;
  }

  length(): number {
    return this.#blob.size;
  }

  /** A file has a name and a date; a Blob has its size only. */
  #version(): ContentVersion {
    const blob = this.#blob;
    const size = blob.size;
    if (!isFile(blob)) return { url: SCHEME, size };
    return { url: SCHEME + encodeURIComponent(blob.name), size, "last-modified": dateOf(blob) };
  }

  /** The name is no part of what is demanded: files are renamed. Nor is the date of what came from elsewhere. */
  #demand({ url, size, "last-modified": date }: ContentVersion): void {
    const blob = this.#blob;
    const refuse = (what: string, was: string | number, is: string | number): never => {
      throw blockError("ESTALE", "open", `its ${what} was ${was} and is ${is}`);
    };
    if (size !== blob.size) refuse("size", size, blob.size);
    const known = url.startsWith(SCHEME) && isFile(blob) ? date : undefined;
    if (known !== undefined && isFile(blob) && known !== dateOf(blob)) refuse("date", known, dateOf(blob));
  }

  pread(offset: number, buffer: Uint8Array): Answer<void> {
    return this.#copyKept(offset, buffer) ? undefined : this.#fetch(offset, buffer);
  }

  async #fetch(offset: number, buffer: Uint8Array): Promise<void> {
    // Large reads cost what they bring. And what surrounds a range may be unreadable where the range is not.
    const isKept = buffer.byteLength < BLOCK_BYTES && (await this.#readBlocks(offset, buffer));
    if (!isKept) buffer.set(await this.#read(offset, offset + buffer.byteLength));
  }

  /** Fills the buffer out of blocks. False: one can't be read. */
  async #readBlocks(offset: number, buffer: Uint8Array): Promise<boolean> {
    const end = offset + buffer.byteLength;
    for (let at = offset; at < end;) {
      const index = Math.floor(at / BLOCK_BYTES);
      const block = await this.#block(index).catch(() => undefined);
      if (!block) return false;
      const start = at - index * BLOCK_BYTES;
      const part = block.subarray(start, start + end - at);
      buffer.set(part, at - offset);
      at += part.byteLength;
    }
    return true;
  }

  /** Fills the buffer if all of it lies in one block that is here. */
  #copyKept(offset: number, buffer: Uint8Array): boolean {
    const index = Math.floor(offset / BLOCK_BYTES);
    const block = this.#blocks.get(index);
    const start = offset - index * BLOCK_BYTES;
    if (!(block instanceof Uint8Array) || start + buffer.byteLength > block.byteLength) return false;
    buffer.set(block.subarray(start, start + buffer.byteLength));
    this.#keep(index, block);
    return true;
  }

  blockStatus(offset: number, bytes: number): BlockStatus {
    return { bytes, data: true, zero: false, allocated: true, map: { node: this.#node, offset } };
  }

  allocatedBytes(): Promise<number> {
    return Promise.resolve(this.#blob.size);
  }

  async setReadOnly(readOnly: boolean): Promise<void> {
    if (!readOnly) throw readOnlyError();
  }

  /** A block, which several readers may wait for. */
  async #block(index: number): Promise<Uint8Array> {
    const start = index * BLOCK_BYTES;
    const block =
      this.#blocks.get(index) ?? this.#read(start, Math.min(start + BLOCK_BYTES, this.#blob.size));
    this.#keep(index, block);
    try {
      const bytes = await block;
      if (this.#blocks.get(index) === block) this.#keep(index, bytes);
      return bytes;
    } catch (error) {
      if (this.#blocks.get(index) === block) this.#blocks.delete(index);
      throw error;
    }
  }

  #keep(index: number, block: Uint8Array | Promise<Uint8Array>): void {
    if (index === this.#latest && this.#blocks.get(index) === block) return;
    this.#latest = index;
    this.#blocks.delete(index);
    this.#blocks.set(index, block);
    if (this.#blocks.size <= MOST_BLOCKS) return;
    const [oldest = index] = this.#blocks.keys();
    this.#blocks.delete(oldest);
  }

  async #read(offset: number, end: number): Promise<Uint8Array> {
    const bytes = end - offset;
    const part = await this.#blob
      .slice(offset, end)
      .arrayBuffer()
      .catch((cause: unknown) => {
        throw new BlockError({ code: "EIO", op: "pread", node: this.#node.name, offset, bytes, cause });
      });
    if (part.byteLength !== bytes)
      throw new BlockError({ code: "EIO", op: "pread", node: this.#node.name, offset, bytes });
    return new Uint8Array(part);
  }
}

function isFile(blob: Blob): blob is File {
  return typeof File === "function" && blob instanceof File;
}

/** To the millisecond. */
function dateOf({ lastModified }: File): string {
  return new Date(lastModified).toISOString();
}

function readOnlyError(): BlockError {
  return blockError("EACCES", "open", "A blob cannot be written to");
}

/**
 * Option: `blob`, a Blob or File. Needs `read-only`, or `auto-read-only`, which then makes the node read-only; without
 * them EACCES.
 */
export const blob: DriverType = {
  name: "blob",
  kind: "protocol",
  isLibraryOnly: true,
  async open({ node }, spec) {
    const source = spec["blob"];
    if (!(source instanceof Blob)) throw optionError("Parameter 'blob' expects a Blob");
    if (!node.readOnly && !node.options.autoReadOnly) throw readOnlyError();
    node.options.readOnly = true;
    return new BlobDriver(node, source);
  },
};
