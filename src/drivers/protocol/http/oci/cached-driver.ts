/**
 * A disk out of a compressed layer: a file of the cache, read-only.
 */
import { blockError } from "../../../../base/errors.ts";
import { SECTOR_SIZE } from "../../../../base/limits.ts";
import { alignUp } from "../../../../base/ranges.ts";
import type { BlockDriver, BlockStatus, NodeView } from "../../../../block/model/contract.ts";
import type { CachedDisk } from "./cache.ts";

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
