/**
 * The snapshot table in a check: entries that are incomplete, say too much or do not fit are named, and with repair those
 * beyond the limits are cut off, and the table is written anew where another entry changes. Its L1 tables are counted by the walk.
 *
 * Invariants: a new table is durable, and counted, before the header names it; the old one is given up after that.
 * Source: qcow2.txt, "Snapshots"; behaviour of QEMU 7.2's check.
 */
import { BlockError } from "../../../../base/errors.ts";
import { strerror } from "../../../../base/errno.ts";
import { limits } from "../../../../base/limits.ts";
import type { StoredRefcounts } from "./refcounts.ts";
import type { Inspected, Walk } from "./inspected.ts";
import { Incompatible, writeU64 } from "../disk/layout.ts";
import { completeEntry, FIXED_BYTES, LEAST_EXTRA_BYTES, snapshotText } from "../disk/snapshot-table.ts";

/** Where the header says how many snapshots there are and where: 4 and 8 bytes. */
const SNAPSHOTS_AT = 60;
/** No table reaches over more of the file, whatever of it is kept (QEMU's). */
const MOST_BYTES = 2 ** 31 - 1;

interface Entry {
  /** Any 64 bits. */
  readonly l1Offset: bigint;
  readonly l1Entries: number;
  readonly id: string;
  readonly name: string;
  readonly extraBytes: number;
  /** As it is to be written, padded. */
  readonly bytes: Uint8Array;
}

type Reading = Pick<Inspected, "file" | "header" | "say" | "fix">;

/** The table as the check found it. */
export class SnapshotTableCheck {
  readonly #image: Reading;
  readonly #entries: Entry[] = [];
  /** What is wrong with the entries that are kept. */
  corruptions = 0;
  /** Snapshots beyond the limits, which a repair cuts off. */
  #overhanging = 0;
  /** Bytes of it in the file; what of them is kept; whether all of them lie in the file. */
  #bytes = 0;
  #keptBytes = 0;
  #counted = false;

  private constructor(image: Reading) {
    this.#image = image;
  }

  /** Reads the table. Errors: EINVAL and EFBIG for one that can't be read, told in QEMU's words. */
  static async read(image: Reading): Promise<SnapshotTableCheck> {
    const table = new SnapshotTableCheck(image);
    await table.#read();
    return table;
  }

  #fail(code: "EINVAL" | "EFBIG", message: string, removable?: string): never {
    throw new BlockError({ code, op: "check", message, ...(removable ? { details: { removable } } : {}) });
  }

  async #read(): Promise<void> {
    const { header, fix, say } = this.#image;
    let count = header.snapshotCount;
    if (count > limits.qcow2MaxSnapshots) {
      const over = count - limits.qcow2MaxSnapshots;
      if (!fix.errors) this.#fail("EFBIG", "snapshot table too large", `all ${over} overhanging snapshots`);
      say(`Discarding ${over} overhanging snapshots`);
      this.#overhanging += over;
      count = limits.qcow2MaxSnapshots;
    }
    const clusterSize = 2 ** header.clusterBits;
    const end = header.snapshotsOffset + count * FIXED_BYTES;
    if (header.snapshotsOffset % clusterSize !== 0 || end > limits.maxImageBytes)
      this.#fail("EINVAL", "snapshot table offset invalid");
    for (let index = 0; index < count; index++) {
      const entry = await this.#entry(index);
      if (entry === undefined) {
        const left = count - index;
        if (!fix.errors) {
          const words = "failed to read the snapshot table: Snapshot table is too big";
          this.#fail("EFBIG", words, `all ${left} overhanging snapshots`);
        }
        say(`Discarding ${left} overhanging snapshots (snapshot table is too big)`);
        this.#overhanging += left;
        break;
      }
      this.#entries.push(entry);
    }
    this.#entries.forEach(({ extraBytes }, index) => {
      if (header.version < 3 || extraBytes >= LEAST_EXTRA_BYTES) return;
      say(`${fix.errors ? "Repairing" : "ERROR"} snapshot table entry ${index} is incomplete`);
      this.corruptions += 1;
    });
  }

  /** The next entry; undefined: the table is too big. */
  async #entry(index: number): Promise<Entry | undefined> {
    const { header, file, fix, say } = this.#image;
    const at = header.snapshotsOffset + Math.ceil(this.#bytes / 8) * 8;
    const fixed = new Uint8Array(FIXED_BYTES);
    await file.pread(at, fixed);
    const view = new DataView(fixed.buffer);
    const extraBytes = view.getUint32(36);
    const most = limits.qcow2MaxSnapshotExtraBytes;
    if (extraBytes > most) {
      const words = `Too much extra metadata in snapshot table entry ${index}`;
      if (!fix.errors)
        this.#fail("EFBIG", `failed to read the snapshot table: ${words}`, "this extra metadata");
      say(`Discarding too much extra metadata in snapshot table entry ${index} (${extraBytes} > ${most})`);
      this.corruptions += 1;
    }
    const kept = Math.min(extraBytes, most);
    const lengths = [view.getUint16(12), view.getUint16(14)] as const;
    const extra = new Uint8Array(kept);
    await file.pread(at + FIXED_BYTES, extra);
    const names = new Uint8Array(lengths[0] + lengths[1]);
    await file.pread(at + FIXED_BYTES + extraBytes, names);
    this.#keptBytes = Math.ceil(this.#keptBytes / 8) * 8 + FIXED_BYTES + kept + names.byteLength;
    if (this.#keptBytes > limits.qcow2MaxSnapshotTableBytes) return undefined;
    const end = at + FIXED_BYTES + extraBytes + names.byteLength - header.snapshotsOffset;
    if (end > MOST_BYTES) return undefined;
    this.#bytes = end;
    const bytes = completeEntry({ fixed, extra, names }, header.size);
    return {
      l1Offset: view.getBigUint64(0),
      l1Entries: view.getUint32(8),
      id: snapshotText(names.subarray(0, lengths[0])),
      name: snapshotText(names.subarray(lengths[0])),
      extraBytes,
      bytes,
    };
  }

  /**
   * Lets the header count the snapshots that are kept, and no more; what was cut off is leaked then. Answers with how many
   * that were. Errors: the file's.
   */
  async cutOff(): Promise<number> {
    if (this.#overhanging === 0) return 0;
    const { header, file } = this.#image;
    header.snapshotCount = this.#entries.length;
    const count = new Uint8Array(4);
    new DataView(count.buffer).setUint32(0, header.snapshotCount);
    await file.pwrite(SNAPSHOTS_AT, count);
    await file.flush();
    return this.#overhanging;
  }

  /** Counts what the snapshots refer to, and their table. */
  async count(walk: Walk): Promise<void> {
    const { header } = this.#image;
    if (this.#entries.length > 0 && Number(header.incompatible) & Incompatible.dataFile)
      walk.corruption(`ERROR ${this.#entries.length} snapshots in image with data file`);
    for (const { id, name, l1Offset, l1Entries } of this.#entries) {
      const unaligned = l1Offset % BigInt(walk.clusterSize) !== 0n;
      if (!unaligned && l1Entries * 8 <= limits.qcow2MaxL1Bytes) {
        await walk.l1(Number(l1Offset), l1Entries, false);
        continue;
      }
      const what = unaligned
        ? `l1_offset=0x${l1Offset.toString(16)}: L1 table is not cluster aligned`
        : `l1_size=0x${l1Entries.toString(16)}: L1 table is too large`;
      walk.corruption(`ERROR snapshot ${id} (${name}) ${what}; snapshot table entry corrupted`);
    }
    this.#counted = walk.add(header.snapshotsOffset, this.#bytes);
  }

  /** Writes the table anew. Call it when the refcounts are right. Errors: the file's, ENOSPC without room for it. */
  async rewrite(image: Inspected, walk: Walk, stored: StoredRefcounts): Promise<void> {
    const { header, file } = image;
    const { clusterSize } = walk;
    const bytes = new Uint8Array(this.#entries.reduce((sum, entry) => sum + entry.bytes.byteLength, 0));
    let at = 0;
    for (const entry of this.#entries) {
      bytes.set(entry.bytes, at);
      at += entry.bytes.byteLength;
    }
    const count = Math.ceil(bytes.byteLength / clusterSize);
    const first = header.snapshotsOffset / clusterSize;
    const old = { first, end: first + Math.ceil(this.#bytes / clusterSize) };
    const cluster = await stored.findFree(walk, count, old);
    if (cluster === undefined) {
      image.say(`ERROR failed to update snapshot table: ${strerror("ENOSPC")}`);
      throw new BlockError({ code: "ENOSPC", op: "check" });
    }
    await file.pwrite(cluster * clusterSize, bytes);
    for (let index = 0; index < count; index++) await stored.set(cluster + index, 1);
    await file.flush();
    header.snapshotCount = this.#entries.length;
    header.snapshotsOffset = cluster * clusterSize;
    const fields = new Uint8Array(12);
    const view = new DataView(fields.buffer);
    view.setUint32(0, header.snapshotCount);
    writeU64(view, 4, header.snapshotsOffset);
    await file.pwrite(SNAPSHOTS_AT, fields);
    await file.flush();
    // What else refers to the old table's clusters was counted, too.
    for (let index = old.first; index < old.end; index++) {
      const found = await stored.get(index);
      const references = Math.max(0, (walk.counts[index] ?? 0) - (this.#counted ? 1 : 0));
      if (found !== undefined && found > references) await stored.set(index, references);
      if (index >= walk.clusters && !found) break;
    }
  }
}
