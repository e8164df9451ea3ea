/**
 * alloc-track: a disk that is being filled from its backing node, on storage that knows nothing of backing files. What was
 * written through it (by a guest, or a stream job) is read from `file`, the rest from `backing`. When a stream has done its work, the
 * link to the backing node is dropped, and `file` alone holds the disk.
 *
 * Invariants: which granules are in `file` is known in memory, and in `map` where there is one: whoever opens `file` alone before the link
 * was dropped has half a disk. A bit is in `map` once its granule is durable in `file`, and none is ever taken back, so that any mixture of
 * an old and a new one is true; a flush makes both durable.
 * A granule counts as written when all of it is: one that is written in part gets the rest from `backing` first, and nobody
 * else writes to it meanwhile. When the link goes, what was never written reads as zeroes in `file`, too.
 * Not in QEMU; the idea is that of Proxmox's live restore.
 */
import { assert } from "../../base/assert.ts";
import { type Answer, andThen } from "../../base/answer.ts";
import { RangeLock, alignDown, alignUp } from "../../base/ranges.ts";
import { sameBytes } from "../../base/bytes.ts";
import { blockError } from "../../base/errors.ts";
import { failed } from "../../base/lease.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type DriverInfo,
  type DriverType,
  type Edge,
  type HeaderBacking,
  type NodeView,
  Req,
  type RequestFlags,
  Role,
  type TruncateOptions,
} from "../../block/model/contract.ts";
import { nodeOf } from "../../block/model/node.ts";
import { childOption } from "../../block/model/options.ts";
import { blockStatusAbove } from "../../block/io/status.ts";
import { Bitmap } from "../../kernels/bitmap.ts";

/** Bytes of a granule where the storage has no clusters. */
const DEFAULT_GRANULE = 64 * 1024;

/** A part of a range that lies all in `file`, or all not. */
interface Part {
  at: number;
  bytes: number;
  here: boolean;
}

class AllocTrack implements BlockDriver {
  readonly #node: NodeView;
  readonly #file: Edge;
  readonly #map: Edge | undefined;
  /** What `map` says. */
  #told = new Uint8Array();
  /** What `file` holds; all of it, once the link is gone. */
  readonly #here: Bitmap;
  /** Granules that are being written, while they don't count as written yet. */
  readonly #filling = new RangeLock();

  constructor(node: NodeView, file: Edge, map: Edge | undefined) {
    this.#node = node;
    this.#file = file;
    this.#map = map;
    const { clusterSize = 0 } = file.node.driver.getInfo?.() ?? {};
    this.#here = new Bitmap(file.length, clusterSize || DEFAULT_GRANULE, node.services.kernels);
  }

  /** Goes on with what `map` says to be in `file`; an empty one is new. Throws EINVAL for one of another disk. */
  async goOn(): Promise<void> {
    if (!this.#map) return;
    this.#told = new Uint8Array(this.#here.serializedBytes);
    const { length } = this.#map;
    const bytes = alignUp(this.#told.length, SECTOR_SIZE);
    if (length === 0) return this.#map.truncate(bytes, { exact: true, preallocation: "off" });
    if (length !== bytes) throw blockError("EINVAL", "open", "the map is of another disk");
    await this.#map.pread(0, this.#told);
    this.#here.deserialize(this.#told);
  }

  async writeBack(): Promise<void> {
    if (!this.#map) return;
    const here = this.#here.serialize();
    if (sameBytes(here, this.#told)) return;
    await this.#file.flush();
    for (let at = 0; at < here.length; at += SECTOR_SIZE) {
      const part = here.subarray(at, at + SECTOR_SIZE);
      if (!sameBytes(part, this.#told.subarray(at, at + SECTOR_SIZE))) await this.#map.pwrite(at, part);
    }
    this.#told = here;
  }

  get #granule(): number {
    return this.#here.granularity;
  }

  length(): number {
    return this.#file.length;
  }

  getInfo(): DriverInfo {
    return { ...this.#file.node.driver.getInfo?.(), clusterSize: this.#granule };
  }

  pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    const first = this.#part(offset, offset + buffer.byteLength);
    if (first.here && first.bytes === buffer.byteLength) return this.#file.pread(offset, buffer, flags);
    return this.#readParts(offset, buffer);
  }

  async #readParts(offset: number, buffer: Uint8Array): Promise<void> {
    for (const { at, bytes, here } of this.#parts(offset, buffer.byteLength)) {
      const part = buffer.subarray(at - offset, at - offset + bytes);
      const from = here ? this.#file : this.#node.backing;
      if (from) await from.pread(at, part);
      else part.fill(0);
    }
  }

  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return this.#write(offset, buffer.byteLength, () =>
      this.#file.pwrite(offset, buffer, flags & ~Req.writeUnchanged),
    );
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Answer<void> {
    // What a stream brings over as zeroes needs no room.
    const wish = flags & Req.writeUnchanged ? flags | Req.mayUnmap : flags;
    return this.#write(offset, bytes, () =>
      this.#file.pwriteZeroes(offset, bytes, wish & ~Req.writeUnchanged),
    );
  }

  /** What `file` does not hold can't be let go of: it would be read from the backing node still. */
  async pdiscard(offset: number, bytes: number): Promise<void> {
    for (const { at, bytes: length, here } of this.#parts(offset, bytes))
      if (here) await this.#file.pdiscard(at, length);
  }

  #write(offset: number, bytes: number, write: () => Answer<void>): Answer<void> {
    const start = alignDown(offset, this.#granule);
    const end = Math.min(alignUp(offset + bytes, this.#granule), this.length());
    if (bytes === 0 || this.#here.nextZero(start, end) < 0) return write();
    return this.#writeNew({ offset, bytes, start, end }, write);
  }

  async #writeNew(
    { offset, bytes, start, end }: { offset: number; bytes: number; start: number; end: number },
    write: () => Answer<void>,
  ): Promise<void> {
    const held = await this.#filling.exclusive(start, end - start);
    try {
      await this.#fill(start, offset);
      await this.#fill(offset + bytes, end);
      await write();
      this.#here.set(start, end - start);
    } finally {
      this.#filling.end(held);
    }
  }

  /** Brings what a granule has beside the write into `file`, if it is not there. */
  async #fill(from: number, to: number): Promise<void> {
    for (const { at, bytes, here } of [...this.#parts(from, Math.max(0, to - from))]) {
      if (here) continue;
      const rest = new Uint8Array(bytes);
      if (this.#node.backing) await this.#node.backing.pread(at, rest);
      await this.#file.pwrite(at, rest);
    }
  }

  blockStatus(offset: number, bytes: number): BlockStatus {
    const { here, bytes: reach } = this.#part(offset, offset + bytes);
    if (!here) return { bytes: reach, data: false, zero: false, allocated: false };
    const map = { node: this.#file.node, offset };
    return { bytes: reach, data: true, zero: false, allocated: true, map, recurse: true };
  }

  truncate(size: number, options: TruncateOptions): Answer<void> {
    const before = this.length();
    if (this.#map) throw blockError("ENOTSUP", "truncate", "a disk with a map keeps its length");
    return andThen(this.#file.truncate(size, options), () => {
      this.#here.truncate(size);
      // What is added is the file's: it reads as zeroes there, whatever the backing node is as long as.
      if (size > before) this.#here.set(before, size - before);
    });
  }

  close(): Promise<void> {
    assert(this.#filling.size === 0, "nothing is filled of a node that goes");
    this.#here.free();
    return Promise.resolve();
  }

  readonly headerBacking: HeaderBacking = {
    filename: () => undefined,
    format: () => undefined,
    // A base that stays needs no link in a header: it is known in memory only.
    change: async (backing) => {
      if (backing === null) await this.#standAlone();
    },
  };

  /** What nobody has brought into `file` is nothing: it must read so there, whatever it held. The node is drained. */
  async #standAlone(): Promise<void> {
    const length = this.length();
    for (const { at, bytes, here } of [...this.#parts(0, length)]) {
      if (here) continue;
      for (let from = at; from < at + bytes;) {
        const status = await blockStatusAbove(nodeOf(this.#file.node), from, at + bytes - from);
        if (!status.zero) await this.#file.pwriteZeroes(from, status.bytes, Req.mayUnmap);
        from += status.bytes;
      }
    }
    if (length > 0) this.#here.set(0, length);
  }

  #part(at: number, end: number): Part {
    const here = at < end && this.#here.get(at);
    const change = here ? this.#here.nextZero(at, end) : this.#here.nextDirty(at, end);
    return { at, bytes: (change < 0 ? end : change) - at, here };
  }

  *#parts(offset: number, bytes: number): Generator<Part> {
    for (let at = offset; at < offset + bytes;) {
      const part = this.#part(at, offset + bytes);
      yield part;
      at += part.bytes;
    }
  }
}

/**
 * Options: `file`, whose content does not count; `backing`, what the disk is; `map`, where it is kept what `file` has, so that another
 * process can go on. Errors: EINVAL for a node without a backing one, and for a map of another disk.
 */
export const allocTrack: DriverType = {
  name: "alloc-track",
  staysAsOpened: true,
  kind: "format",
  supportsBacking: true,
  isLibraryOnly: true,
  async open(context, spec) {
    if (spec["backing"] === undefined || spec["backing"] === null)
      throw blockError("EINVAL", "open", "Parameter 'backing' is missing");
    const file = await context.openChild(childOption(spec, "file"), "file", Role.data | Role.primary);
    const map =
      spec["map"] === undefined
        ? undefined
        : await context.openChild(childOption(spec, "map"), "map", Role.metadata);
    const driver = new AllocTrack(context.node, file, map);
    try {
      await driver.goOn();
    } catch (error) {
      return failed(error, () => driver.close());
    }
    return driver;
  },
};
