/**
 * Dirty bitmaps on a node: writes set bits while a bitmap records. A bitmap that a job uses is busy, or frozen with a
 * successor that records in its place until the job ends. Source: QEMU's BdrvDirtyBitmap.
 */
import { assert } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { isPowerOfTwo } from "../../base/ranges.ts";
import { Bitmap } from "../../kernels/bitmap.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";
import type { NodeView, WriteAhead } from "./contract.ts";

/** A node that has dirty bitmaps: its length is theirs. */
export interface BitmapOwner extends NodeView {
  readonly dirtyBitmaps: DirtyBitmap[];
  readonly writeAhead: WriteAhead | undefined;
}

/** A dirty bitmap. Anonymous ones (no name) belong to jobs and filters, or record in the place of one that a job uses. */
export class DirtyBitmap {
  readonly node: BitmapOwner;
  readonly name: string | undefined;
  readonly granularity: number;
  bitmap: Bitmap;
  enabled = true;
  persistent = false;
  /** It came out of the image, where it has its place. */
  stored = false;
  /** There it is one that records when the image is opened. */
  storedAuto = false;
  busy = false;
  readOnly = false;
  inconsistent = false;
  /** A job works by it: what a disk grows by concerns it. */
  isJobs = false;
  /** It is about to be removed: it is not stored any more. */
  leaves = false;
  successor: DirtyBitmap | undefined;
  /** How far it has ever reached, bytes. */
  #reach: number;
  /** A filter's own bits are shown, and neither changed nor freed here. */
  readonly #isLent: boolean;

  constructor(
    node: BitmapOwner,
    { name, granularity, lent }: { name?: string | undefined; granularity: number; lent?: Bitmap },
  ) {
    this.node = node;
    this.name = name;
    this.granularity = granularity;
    this.#isLent = lent !== undefined;
    this.bitmap = lent ?? new Bitmap(node.length, granularity, node.services.kernels);
    this.#reach = this.bitmap.length;
  }

  /** Whether writes set bits now: its own, or its successor's. */
  get recording(): boolean {
    return this.enabled || (this.successor?.enabled ?? false);
  }

  /** Bytes that are dirty. */
  get dirtyBytes(): number {
    return this.bitmap.count();
  }

  /** A write to the node changed the range. What lies beyond the end (a failed write that would have grown) is left out. */
  recordWrite(offset: number, bytes: number): void {
    const within = Math.min(bytes, this.bitmap.length - offset);
    if (this.enabled && within > 0) this.bitmap.set(offset, within);
  }

  /** The disk has another length. Throws EFBIG and ENOMEM as Bitmap; then it does not know any more what is dirty. */
  truncate(length: number): void {
    if (this.#isLent) return;
    try {
      this.bitmap.truncate(length);
    } catch (error) {
      this.inconsistent = true;
      throw error;
    }
    this.#reach = Math.max(this.#reach, length);
  }

  /**
   * The disk is about to be `bytes` longer than `offset`. What it never had is no change of anything, and no bitmap of QEMU's
   * says so; what was cut off before is: it held other data. How far a bitmap reached that came out of an image is not known: all counts
   * as cut off, but in a machine, where QEMU's answers are wanted to the bit.
   */
  recordGrowth(offset: number, bytes: number): () => void {
    const isAll = this.isJobs || (this.stored && !this.node.services.isForGuests);
    const most = isAll ? bytes : Math.min(bytes, this.#reach - offset);
    return () => {
      if (most > 0) this.recordWrite(offset, most);
    };
  }

  /** It came, goes, or was changed otherwise than by recording. */
  noteChange(): void {
    if (this.persistent) this.node.writeAhead?.changed();
  }

  /** Throws in QEMU's words if the bitmap can't be used: busy always counts, the others unless allowed. */
  check(allow: { readOnly?: boolean; inconsistent?: boolean } = {}): void {
    if (this.busy) {
      throw new CommandError(
        `Bitmap '${this.name}' is currently in use by another operation and cannot be used`,
      );
    }
    if (this.readOnly && !allow.readOnly) {
      throw new CommandError(`Bitmap '${this.name}' is readonly and cannot be modified`);
    }
    if (this.inconsistent && !allow.inconsistent) {
      throw new CommandError(`Bitmap '${this.name}' is inconsistent and cannot be used`, {
        details: { hint: "Try block-dirty-bitmap-remove to delete this bitmap from disk" },
      });
    }
  }

  /** Makes a successor that records from now on; this one freezes (busy). */
  createSuccessor(): void {
    this.check();
    assert(!this.successor, "the bitmap has a successor");
    const successor = createDirtyBitmap(this.node, { granularity: this.granularity });
    successor.enabled = this.enabled;
    this.enabled = false;
    this.successor = successor;
    this.busy = true;
  }

  /** The job succeeded: the successor's bits replace this bitmap's. */
  abdicate(): void {
    const successor = this.#takeSuccessor();
    this.bitmap.free();
    this.bitmap = successor.bitmap;
    this.noteChange();
    this.inconsistent ||= successor.inconsistent;
  }

  /** The job failed: the successor's bits are merged into this bitmap. */
  reclaim(): void {
    const successor = this.#takeSuccessor();
    // One of them could not grow with the disk.
    if (this.bitmap.length === successor.bitmap.length) this.bitmap.merge(successor.bitmap);
    else this.inconsistent = true;
    successor.bitmap.free();
  }

  #takeSuccessor(): DirtyBitmap {
    const { successor } = this;
    assert(successor, "the bitmap has no successor");
    assert(this.busy && !this.enabled, "a bitmap with a successor is frozen");
    this.enabled = successor.enabled;
    this.successor = undefined;
    this.busy = false;
    successor.#leave();
    return successor;
  }

  /** Takes it off its node and frees its memory. */
  release(): void {
    this.#leave();
    this.noteChange();
    this.successor?.release();
    if (!this.#isLent) this.bitmap.free();
  }

  #leave(): void {
    const at = this.node.dirtyBitmaps.indexOf(this);
    if (at >= 0) this.node.dirtyBitmaps.splice(at, 1);
  }
}

/** Bitmap granularity where none is asked for: the cluster size within 4 KiB … 64 KiB, else 64 KiB. */
export function defaultGranularity(node: BitmapOwner): number {
  const cluster = node.driver.getInfo?.()?.clusterSize ?? 0;
  return cluster > 0 ? Math.min(Math.max(cluster, 4096), 65536) : 65536;
}

/** Adds a bitmap to a node; a name must be free. Newest first, as QEMU lists them. */
export function createDirtyBitmap(
  node: BitmapOwner,
  options: { name?: string; granularity?: number } = {},
): DirtyBitmap {
  const granularity = options.granularity ?? defaultGranularity(node);
  assert(isPowerOfTwo(granularity) && granularity >= limits.minGranularity, "granularity");
  if (options.name !== undefined && findDirtyBitmap(node, options.name)) {
    throw new CommandError(`Bitmap already exists: ${options.name}`, { code: "EEXIST" });
  }
  const bitmap = new DirtyBitmap(node, { name: options.name, granularity });
  node.dirtyBitmaps.unshift(bitmap);
  return bitmap;
}

/** Shows bits of a filter's among a node's bitmaps until it is released, which is to come before they are freed. */
export function lendBitmap(node: BitmapOwner, lent: Bitmap): DirtyBitmap {
  const bitmap = new DirtyBitmap(node, { granularity: lent.granularity, lent });
  bitmap.enabled = false;
  node.dirtyBitmaps.unshift(bitmap);
  return bitmap;
}

/** The node's bitmap of that name. */
export function findDirtyBitmap(node: BitmapOwner, name: string): DirtyBitmap | undefined {
  return node.dirtyBitmaps.find((bitmap) => bitmap.name === name);
}

/** The bitmaps of a node as QMP shows them (BlockDirtyInfo). */
export function dirtyBitmapInfo(node: BitmapOwner): TypeOf<"BlockDirtyInfo">[] {
  return node.dirtyBitmaps.map((bitmap) => ({
    ...(bitmap.name === undefined ? {} : { name: bitmap.name }),
    count: bitmap.dirtyBytes,
    granularity: bitmap.granularity,
    recording: bitmap.recording,
    busy: bitmap.busy,
    persistent: bitmap.persistent,
    ...(bitmap.inconsistent ? { inconsistent: true } : {}),
  }));
}

/** Called before a disk grows; the answer is to be called once it has. */
export function recordGrowth(node: BitmapOwner, offset: number, bytes: number): () => void {
  const steps = node.dirtyBitmaps.map((bitmap) => bitmap.recordGrowth(offset, bytes));
  return () => {
    for (const step of steps) step();
  };
}

/** Called by the request path after a write. */
export function recordWrite(node: BitmapOwner, offset: number, bytes: number): void {
  if (node.dirtyBitmaps.length === 0) return;
  for (const bitmap of node.dirtyBitmaps) bitmap.recordWrite(offset, bytes);
}
