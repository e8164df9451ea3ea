/**
 * Internal snapshots: list, create, apply, remove, and a read-only look at one. A change has the whole disk to itself.
 *
 * A crash leaves the disk and every snapshot as they were before or after: nothing is referred to before its refcounts and
 * content are durable, one write of the header's first sector switches, and only after it anything is given up. While
 * refcounts and tables disagree, the dirty bit (version 3) is set in the file, so that the next writable open repairs them;
 * without it (version 2) a crash can leave leaks and COPIED flags that claim too little or too much of what nobody shares.
 * Source: qcow2.txt, "Snapshots"; behaviour of QEMU 7.2.
 */
import { assert } from "../../../../base/assert.ts";
import { encodeName } from "../../../../base/names.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../../../base/errors.ts";
import { limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import type { NewSnapshot, SnapshotInfo, SnapshotStore } from "../../../../block/model/contract.ts";
import { allocate, free, unallocate } from "../metadata/allocate.ts";
import { refreshFlags } from "./copied-flags.ts";
import { updateHeader } from "../metadata/header-update.ts";
import type { Image } from "../metadata/image.ts";
import { entryOffset, Incompatible, l1EntriesFor } from "../disk/layout.ts";
import {
  addReferences,
  checkSnapshotL1,
  dropReferences,
  type L1Table,
  readL1,
  removeReferences,
} from "./snapshot-references.ts";
import {
  completeSnapshot,
  LEAST_EXTRA_BYTES,
  makeSnapshot,
  readSnapshotTable,
  serializeSnapshots,
  type Snapshot,
  snapshotExtraBytes,
  snapshotTableBytes,
} from "../disk/snapshot-table.ts";
import { isDirty, writeBackLocked } from "../metadata/write-back.ts";

const DIRTY = BigInt(Incompatible.dirty);
const CHUNK_BYTES = 65536;

/** What takes a change back that did not come to its end. */
type Undo = (() => Promise<void>)[];

/** The snapshots of one open image. */
export class Qcow2Snapshots implements SnapshotStore {
  readonly #image: Image;
  #snapshots: Snapshot[];

  private constructor(image: Image, snapshots: Snapshot[]) {
    this.#image = image;
    this.#snapshots = snapshots;
    this.#note();
  }

  /** Reads the table. Throws ImageError for an impossible one. */
  static async open(image: Image): Promise<Qcow2Snapshots> {
    const { snapshotsOffset: offset, snapshotCount: count } = image.header;
    const table = { offset, count, diskBytes: image.size };
    return new Qcow2Snapshots(image, count === 0 ? [] : await readSnapshotTable(image.file, table));
  }

  list(): readonly SnapshotInfo[] {
    return this.#snapshots.map(({ info }) => info);
  }

  /** Errors: EINVAL where a refcount would not fit its width or for a long name, EFBIG, ENOTSUP with a data file. */
  async create(snapshot: NewSnapshot): Promise<SnapshotInfo> {
    if (encodeName(snapshot.name).byteLength > limits.maxSnapshotNameBytes) {
      throw blockError("EINVAL", "snapshot", "Snapshot name is too long");
    }
    return this.#change(async (undo) => {
      const image = this.#image;
      if (this.#snapshots.length >= limits.qcow2MaxSnapshots) throw blockError("EFBIG", "snapshot");
      const info = this.#describe(snapshot);
      const active = { offset: image.header.l1Offset, entries: image.header.l1Size };
      await this.#share(await readL1(image, active), undo);
      await refreshFlags(image);
      await writeBackLocked(image);
      const l1 = await this.#place(await readL1(image, active), undo);
      await this.#replaceTable([...this.#snapshots, makeSnapshot(info, l1)], undo);
      return info;
    });
  }

  /** Errors: ENOENT; ENOTSUP with a data file; EBUSY with dirty bitmaps, which would not know what changed; EIO for corrupt tables. */
  async apply(id: string): Promise<void> {
    const image = this.#image;
    if (image.node.dirtyBitmaps.length > 0) {
      throw blockError("EBUSY", "snapshot", "Device has active dirty bitmaps");
    }
    checkDiskBytes(this.#find(id).info.diskBytes);
    await this.#change(async (undo) => {
      const snapshot = this.#find(id);
      const { diskBytes } = snapshot.info;
      const entries = Math.max(snapshot.l1Entries, l1EntriesFor(diskBytes, image.geometry));
      if (entries * 8 > limits.qcow2MaxL1Bytes) throw blockError("EFBIG", "snapshot");
      const bytes = new Uint8Array(entries * 8);
      bytes.set(await this.#l1Of(snapshot));
      clearFlags(bytes);
      await this.#share(bytes, undo);
      const l1 = await this.#place(bytes, undo);
      await writeBackLocked(image);
      await image.file.flush();
      undo.length = 0;
      await this.#switchActive(l1, diskBytes);
    });
    image.node.updateLength();
  }

  async remove(id: string): Promise<void> {
    this.#find(id);
    await this.#change(async (undo) => {
      const image = this.#image;
      // Another change may have removed it meanwhile.
      const snapshot = this.#find(id);
      const l1 = await this.#l1Of(snapshot);
      const others = this.#snapshots.filter((other) => other !== snapshot);
      try {
        await this.#replaceTable(others, undo);
        await dropReferences(image, l1);
        this.#free(snapshot.l1Offset, l1.byteLength);
        await this.#settle();
      } catch (error) {
        // It is gone, and only what it held is still counted.
        if (this.#snapshots.includes(snapshot)) throw error;
        const message = `Failed to free the cluster and L1 table: ${messageOf(error)}`;
        throw new BlockError({ code: errnoOf(error), op: "snapshot", message, cause: error });
      }
    });
  }

  /** Makes the entries what version 3 demands: with all extra data. */
  async complete(): Promise<void> {
    if (this.#snapshots.every((snapshot) => snapshotExtraBytes(snapshot) >= LEAST_EXTRA_BYTES)) return;
    await this.#change((undo) => this.#replaceTable(this.#snapshots, undo));
  }

  /** Reads come from the snapshot from now on; beyond its end the disk reads as unallocated. */
  async show(id: string): Promise<void> {
    const image = this.#image;
    if (!image.node.readOnly) throw blockError("EINVAL", "snapshot", "Device is not readonly");
    await image.locked(() => {
      const { l1Offset: offset, l1Entries: entries, info } = this.#find(id);
      checkSnapshotL1(image, { offset, entries });
      checkDiskBytes(info.diskBytes);
      // A disk that was longer than it is now is shown whole.
      image.size = Math.max(image.size, info.diskBytes);
      image.showL1(offset, entries);
      image.node.updateLength();
    });
  }

  #find(id: string): Snapshot {
    const found = this.#snapshots.find(({ info }) => info.id === id);
    if (!found) throw blockError("ENOENT", "snapshot", `Can't find snapshot '${id}'`);
    return found;
  }

  #describe(snapshot: NewSnapshot): SnapshotInfo {
    const { host, size } = this.#image;
    const now = host.clock.wallMicroseconds();
    const numbers = this.#snapshots.map(({ info }) => Number.parseInt(info.id, 10) || 0);
    return {
      id: String(numbers.reduce((most, number) => Math.max(most, number), 0) + 1),
      name: snapshot.name,
      vmStateBytes: 0,
      dateSeconds: Math.floor(now / 1e6),
      dateNanoseconds: Math.floor(now % 1e6) * 1000,
      vmClockSeconds: snapshot.vmClockSeconds ?? 0,
      vmClockNanoseconds: snapshot.vmClockNanoseconds ?? 0,
      ...(snapshot.icount === undefined ? {} : { icount: snapshot.icount }),
      diskBytes: size,
    };
  }

  /**
   * Runs `body` with the disk to itself, nothing cached that the file lacks, and the dirty bit set. What `body` puts into
   * `undo` takes its counts back, the last first, should it fail; it empties the list before the header switches.
   */
  async #change<T>(body: (undo: Undo) => Promise<T>): Promise<T> {
    const image = this.#image;
    if (image.hasDataFile) throw blockError("ENOTSUP", "snapshot");
    if (image.node.readOnly) throw blockError("EACCES", "snapshot", "Image is read-only");
    const claim = await image.claims.exclusive(0, Infinity);
    try {
      return await image.locked(async () => {
        // It may have been made read-only meanwhile.
        if (image.node.readOnly) throw blockError("EACCES", "snapshot", "Image is read-only");
        await writeBackLocked(image);
        await image.file.flush();
        await this.#setBits((bits) => bits | DIRTY);
        const result = await this.#undoable(body);
        await image.file.flush();
        await this.#setBits((bits) => bits & ~DIRTY);
        return result;
      });
    } finally {
      image.claims.end(claim);
    }
  }

  async #undoable<T>(body: (undo: Undo) => Promise<T>): Promise<T> {
    const undo: Undo = [];
    try {
      return await body(undo);
    } catch (error) {
      await this.#recover(undo);
      throw error;
    }
  }

  async #setBits(change: (bits: bigint) => bigint): Promise<void> {
    const image = this.#image;
    if (image.header.version < 3 || change(image.header.incompatible) === image.header.incompatible) return;
    await updateHeader(image, (header) => {
      header.incompatible = change(header.incompatible);
    });
    await image.file.flush();
  }

  /**
   * Makes refcounts and flags what they were; after the header switched the counts are too high at worst, which leaks. If
   * that fails too the dirty bit stays, for the next who opens the image.
   */
  async #recover(undo: Undo): Promise<void> {
    const image = this.#image;
    if (image.dead) return;
    try {
      for (const step of undo.toReversed()) await step();
      await refreshFlags(image, "missing");
      await writeBackLocked(image);
      await image.file.flush();
      await this.#setBits((bits) => bits & ~DIRTY);
    } catch {
      // Nothing is lost: the counts are too high, or the tables are as they were.
      image.markedInUse = false;
    }
  }

  /** Adds a reference to everything that an L1 table reaches. */
  async #share(l1: Uint8Array, undo: Undo): Promise<void> {
    await addReferences(this.#image, l1);
    undo.push(() => removeReferences(this.#image, l1));
  }

  /** Writes a table into new clusters. */
  async #place(bytes: Uint8Array, undo: Undo): Promise<L1Table> {
    const image = this.#image;
    const { clusterSize } = image.geometry;
    const count = Math.ceil(bytes.byteLength / clusterSize);
    if (count === 0) return { offset: 0, entries: 0 };
    const { cluster } = await allocate(image, count);
    undo.push(async () => unallocate(image, { cluster, count }));
    const offset = cluster * clusterSize;
    await image.checkOverlap(offset, count * clusterSize);
    for (let at = 0; at < count * clusterSize; at += CHUNK_BYTES) {
      const part = new Uint8Array(Math.min(CHUNK_BYTES, count * clusterSize - at));
      part.set(bytes.subarray(at, at + part.byteLength));
      await image.file.pwrite(offset + at, part);
    }
    return { offset, entries: bytes.byteLength / 8 };
  }

  /** The bytes of a snapshot's L1 table, its place checked. */
  #l1Of({ l1Offset: offset, l1Entries: entries }: Snapshot): Promise<Uint8Array> {
    checkSnapshotL1(this.#image, { offset, entries });
    return readL1(this.#image, { offset, entries });
  }

  /** Writes a new snapshot table and lets the header name it; everything before it is durable then, and so is the switch. */
  async #replaceTable(changed: Snapshot[], undo: Undo): Promise<void> {
    const image = this.#image;
    assert(image.mutex.locked, "metadata changes under the lock");
    const snapshots = changed.map(completeSnapshot);
    const old = { offset: image.header.snapshotsOffset, bytes: snapshotTableBytes(this.#snapshots) };
    const { offset } = await this.#place(serializeSnapshots(snapshots), undo);
    await writeBackLocked(image);
    await image.file.flush();
    // A header whose write failed may be in the file all the same.
    undo.length = 0;
    await updateHeader(image, (header) => {
      header.snapshotsOffset = offset;
      header.snapshotCount = snapshots.length;
    });
    await image.file.flush();
    this.#snapshots = snapshots;
    this.#note();
    await this.noteL2Tables();
    this.#free(old.offset, old.bytes);
    await writeBackLocked(image);
  }

  /** Lets the header name another L1 table, and gives up the old one with what it alone referred to. */
  async #switchActive(l1: L1Table, size: number): Promise<void> {
    const image = this.#image;
    assert(!isDirty(image), "what a snapshot shows is written before");
    const { l1Offset: offset, l1Size: entries } = image.header;
    const old = await readL1(image, { offset, entries });
    await updateHeader(image, (header) => {
      header.l1Offset = l1.offset;
      header.l1Size = l1.entries;
      header.size = size;
    });
    await image.file.flush();
    image.size = size;
    image.l1.clear();
    image.metadata.removeTables("active L2 table");
    image.noteL1();
    await dropReferences(image, old);
    this.#free(offset, old.byteLength);
    await this.#settle();
  }

  /** Makes what was given up durable and the flags right. */
  async #settle(): Promise<void> {
    const image = this.#image;
    await writeBackLocked(image);
    await refreshFlags(image);
    await writeBackLocked(image);
  }

  #free(offset: number, bytes: number): void {
    const { clusterSize } = this.#image.geometry;
    const count = Math.ceil(bytes / clusterSize);
    if (count > 0) free(this.#image, { cluster: offset / clusterSize, count }, "snapshot");
  }

  /** Enters the snapshots' L2 tables, where writes are kept off them too (`overlap-check=all`). Errors: those of the file. */
  async noteL2Tables(): Promise<void> {
    const { metadata, geometry } = this.#image;
    metadata.removeRanges("inactive L2 table");
    if (!metadata.checks("inactive L2 table")) return;
    const tables = new Set<number>();
    for (const snapshot of this.#snapshots) {
      const l1 = await this.#l1Of(snapshot);
      const view = new DataView(l1.buffer);
      for (let at = 0; at < l1.byteLength; at += 8)
        tables.add(entryOffset(view.getUint32(at), view.getUint32(at + 4)));
    }
    tables.delete(0);
    for (const offset of tables) metadata.addRange("inactive L2 table", offset, geometry.clusterSize);
  }

  /** No other write may land on the table or on the snapshots' L1 tables. */
  #note(): void {
    const { header, metadata } = this.#image;
    metadata.removeRanges("snapshot table");
    metadata.addRange("snapshot table", header.snapshotsOffset, snapshotTableBytes(this.#snapshots));
    metadata.removeRanges("inactive L1 table");
    for (const { l1Offset, l1Entries } of this.#snapshots) {
      metadata.addRange("inactive L1 table", l1Offset, l1Entries * 8);
    }
  }
}

/** Throws EFBIG or EINVAL for a size that no disk has. */
function checkDiskBytes(diskBytes: number): void {
  if (diskBytes > limits.maxImageBytes) throw blockError("EFBIG", "snapshot");
  if (diskBytes % SECTOR_SIZE !== 0) throw blockError("EINVAL", "snapshot");
}

/** What a snapshot's L1 table names is shared from now on. */
function clearFlags(l1: Uint8Array): void {
  for (let at = 0; at < l1.byteLength; at += 8) l1[at] = (l1[at] ?? 0) & 0x7f;
}
