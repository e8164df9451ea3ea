/**
 * blob: a Blob or File as a read-only disk, in browsers (what a user picked, what a fetch brought) and in Node
 * (`fs.openAsBlob`). Ranges are read as they are asked for; the whole is never in memory.
 * Invariants: the length is the Blob's and never changes; a file that was changed or removed behind the Blob's back is EIO.
 * Source: W3C File API, sections 3 (Blob) and 7 (errors).
 */
import { BlockError, blockError } from "../../base/errors.ts";
import type { BlockDriver, BlockStatus, DriverType } from "../../block/driver.ts";
import type { BlockNode } from "../../block/node.ts";
import { optionError } from "../../block/options.ts";

class BlobDriver implements BlockDriver {
  readonly #node: BlockNode;
  readonly #blob: Blob;

  constructor(node: BlockNode, blob: Blob) {
    this.#node = node;
    this.#blob = blob;
  }

  length(): number {
    return this.#blob.size;
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    const bytes = buffer.byteLength;
    const part = await this.#blob
      .slice(offset, offset + bytes)
      .arrayBuffer()
      .catch((cause: unknown) => {
        throw new BlockError({ code: "EIO", op: "pread", node: this.#node.name, offset, bytes, cause });
      });
    if (part.byteLength !== bytes)
      throw new BlockError({ code: "EIO", op: "pread", node: this.#node.name, offset, bytes });
    buffer.set(new Uint8Array(part));
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const map = { node: this.#node, offset };
    return Promise.resolve({ bytes, data: true, zero: false, allocated: true, map });
  }

  allocatedBytes(): Promise<number> {
    return Promise.resolve(this.#blob.size);
  }

  async setReadOnly(readOnly: boolean): Promise<void> {
    if (!readOnly) throw readOnlyError();
  }
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
  async open({ node }, spec) {
    const source = spec["blob"];
    if (!(source instanceof Blob)) throw optionError("Parameter 'blob' expects a Blob");
    if (!node.readOnly && !node.options.autoReadOnly) throw readOnlyError();
    node.options.readOnly = true;
    return new BlobDriver(node, source);
  },
};
