/**
 * What an image can hold beside its disk, and what a check finds in it: the saved machine, internal snapshots, persistent
 * bitmaps; and what a store of objects makes. Stores are interfaces, so that any format can add one. Source: QEMU's BlockDriver, cut by capability.
 */
import type { ByteRange } from "../../base/ranges.ts";
import type { NodeSpec } from "./spec.ts";

/** The saved machine beside the disk: bytes from its own start. What was never written reads as zeroes. */
export interface VmStateStore {
  read(at: number, buffer: Uint8Array): Promise<void>;
  /** Writable nodes only. */
  write(at: number, buffer: Uint8Array): Promise<void>;
}

/** An internal snapshot, as lists show it. */
export interface SnapshotInfo {
  /** Unique in its image; formats choose decimal numbers. */
  readonly id: string;
  readonly name: string;
  /** Bytes of a saved machine; 0: only the disk. */
  readonly vmStateBytes: number;
  /** When it was taken, since 1970. */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  /** The guest's clock. */
  readonly vmClockSeconds: number;
  readonly vmClockNanoseconds: number;
  /** Instructions that a replayed guest had run, if it was one. */
  readonly icount?: number;
  /** Length of the disk, bytes. */
  readonly diskBytes: number;
}

/** What a new snapshot is called; the rest is the machine's, 0 or absent where there is none. */
export interface NewSnapshot {
  /** At most 255 bytes of UTF-8. */
  readonly name: string;
  readonly vmClockSeconds?: number;
  readonly vmClockNanoseconds?: number;
  readonly icount?: number;
}

/** The internal snapshots of an image (qcow2's snapshot table). Ids are those of `list`. */
export interface SnapshotStore {
  list(): readonly SnapshotInfo[];
  /** Keeps the disk as it is now; requests that were accepted before are in it. Writable nodes only. */
  create(snapshot: NewSnapshot): Promise<SnapshotInfo>;
  /** Makes the disk, with its length, what it was; ENOENT without such a snapshot. Writable nodes only. */
  apply(id: string): Promise<void>;
  /** Forgets a snapshot; ENOENT without one. Writable nodes only. */
  remove(id: string): Promise<void>;
  /** Shows the snapshot's content instead of the disk's from now on, at the disk's length. Read-only nodes only (EINVAL). */
  show(id: string): Promise<void>;
}

/** Where persistent dirty bitmaps are kept (qcow2's bitmap directory). */
export interface BitmapStore {
  /** Throws (QEMU's words) if a bitmap of this name and granularity can't be stored. */
  canStore(name: string, granularity: number): void;
  /** Reads them, and changes nothing. */
  load(): Promise<StoredBitmap[]>;
  /**
   * The image is about to be written to: what is in it of them counts for nothing until it is saved anew, or for as much as is written
   * ahead from now on. `current` gives the node's bitmaps as they are when it is called.
   */
  markInUse(current: () => readonly StoredBitmap[]): Promise<WriteAhead | undefined>;
  save(bitmaps: readonly StoredBitmap[]): Promise<void>;
}

/** What changes of a node's data wait for, so that the bitmaps in its image lose nothing by a crash. */
export interface WriteAhead {
  /** Undefined: a change of the range may be made in this turn. Else wait for it and ask again. */
  cover(offset: number, bytes: number): Promise<void> | undefined;
  /** The same for a change of the disk's length, and what it adds or takes away. */
  resizing<T>(range: ByteRange, body: () => Promise<T>): Promise<T>;
  /** A persistent bitmap came, went, or changed otherwise than by recording: nothing more is written until the image says so. */
  changed(): void;
  /** Resolves when the image says all that has changed. */
  settle(): Promise<void>;
}

/** A bitmap as a store keeps it; `bits` in QEMU's serialised layout (little endian, bit 0 first). */
export interface StoredBitmap {
  name: string;
  granularity: number;
  /** Starts recording when the image is opened. */
  auto: boolean;
  inconsistent: boolean;
  bits: Uint8Array;
}

/** What a check of an image found. All members are counts save `imageEndOffset` and `clusterSize` (bytes). */
export interface ImageCheck {
  /** What can destroy data, as far as it is left. */
  corruptions: number;
  /** Clusters that are counted but not used, as far as they are left. */
  leaks: number;
  /** Questions that the check could not answer. */
  checkErrors: number;
  corruptionsFixed: number;
  leaksFixed: number;
  /** Behind the last cluster in use. */
  imageEndOffset: number;
  /** What a cluster holds: `allocatedClusters` of them are what the image takes. */
  clusterSize: number;
  /** Clusters of the disk; those of them that are in the image, that do not follow their neighbour, and that are compressed. */
  totalClusters: number;
  allocatedClusters: number;
  fragmentedClusters: number;
  compressedClusters: number;
}

/** In which parts a draft is written: so many, of so many bytes each but the last. */
export interface Parts {
  readonly count: number;
  readonly bytes: number;
}

/**
 * What a protocol makes beside the place that it is to have: begun anew, in parts where that is said, or found by its token. It is
 * published or discarded, once.
 */
export interface StoredDraft {
  /** It, to be filled. */
  readonly file: NodeSpec;
  /** The name of the same. */
  readonly name: string;
  /** By which another process finds the same draft. Absent: none can. */
  readonly token?: string;
  /** Its parts, where it was begun in such: each of the whole length, with a writer of its own. Nothing is written into `file` then. */
  readonly parts?: readonly NodeSpec[];
  /** It takes its place, whole; one that has it already is no error. ESTALE where something else did meanwhile, which stays. */
  publish(): Promise<void>;
  discard(): Promise<void>;
}
