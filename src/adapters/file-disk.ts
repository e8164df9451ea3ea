/**
 * The entry file-disk: a node as a Disk of the npm package file-disk, so that partitioninfo, ext2fs, balena-image-fs and
 * etcher-sdk work on any image. Needs that package.
 * Invariants: the node stays its owner's, who closes it after the disk's last use; a read beyond the end leaves the buffer as it
 * was there, as file-disk's own disks do.
 */
import { Disk } from "file-disk";
import type { Node } from "../api/node.ts";

/** Options of toFileDisk(). */
export interface FileDiskOptions {
  /** Writes and discards are refused to the node: they are recorded (`recordWrites`) or forgotten, as file-disk does. Default: `node.readOnly`. */
  readOnly?: boolean;
  /** Keeps what is written, and lets reads show it, without writing it to a read-only node. Default false. */
  recordWrites?: boolean;
  /** Keeps what is read. Default false. */
  recordReads?: boolean;
}

/** Node's Buffer, as file-disk has it. */
type DiskBuffer = Parameters<Disk["write"]>[0];

/** A disk of file-disk over a node. */
class NodeDisk extends Disk {
  readonly #node: Node;

  constructor(node: Node, { readOnly, recordWrites, recordReads }: FileDiskOptions) {
    super(readOnly ?? node.readOnly, recordWrites ?? false, recordReads ?? false);
    this.#node = node;
  }

  /** Recorded by file-disk, and dropped from the node if it was opened with `discard: "unmap"`. */
  override async discard(offset: number, length: number): Promise<void> {
    await super.discard(offset, length);
    if (!this.readOnly) await this.#node.discard(offset, length);
  }

  protected _getCapacity(): Promise<number> {
    return Promise.resolve(this.#node.length);
  }

  protected async _read(
    buffer: DiskBuffer,
    bufferOffset: number,
    length: number,
    fileOffset: number,
  ): Promise<{ bytesRead: number; buffer: DiskBuffer }> {
    const bytesRead = Math.max(0, Math.min(length, this.#node.length - fileOffset));
    if (bytesRead > 0)
      await this.#node.read(fileOffset, buffer.subarray(bufferOffset, bufferOffset + bytesRead));
    return { bytesRead, buffer };
  }

  protected async _write(
    buffer: DiskBuffer,
    bufferOffset: number,
    length: number,
    fileOffset: number,
  ): Promise<{ bytesWritten: number; buffer: DiskBuffer }> {
    await this.#node.write(fileOffset, buffer.subarray(bufferOffset, bufferOffset + length));
    return { bytesWritten: length, buffer };
  }

  protected _flush(): Promise<void> {
    return this.#node.flush();
  }
}

/** A node as file-disk's Disk. Errors of reads and writes are the node's (BlockError). */
export function toFileDisk(node: Node, options: FileDiskOptions = {}): Disk {
  return new NodeDisk(node, options);
}
