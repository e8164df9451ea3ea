/**
 * The words of the contract between the block layer and a driver (contract.ts): roles, permissions, flags and limits of requests,
 * and what some hooks are asked and tell. Plain data, which knows neither nodes nor drivers.
 */
import type { TypeOf } from "../../wire/qapi/index.ts";
import type { NodeSpec } from "./spec.ts";

/** Bits of a child's role (QEMU's BdrvChildRole). */
export const Role = {
  /** Guest data lives there. */
  data: 1,
  /** The format's metadata lives there. */
  metadata: 2,
  /** The parent presents the child's data unchanged. */
  filtered: 4,
  /** The backing file. */
  cow: 8,
  /** The child that flush, size and status questions go to first. */
  primary: 16,
  /** file of an ordinary format. */
  image: 1 | 2 | 16,
} as const;
/** A set of Role bits. */
export type ChildRole = number;

/** What a parent takes on a child and what it lets other parents take: bits of Perm (permissions.ts). */
export interface Permissions {
  perm: number;
  shared: number;
}

/** Request flags (QEMU's BDRV_REQ_*). */
export const Req = {
  /** pread: copy what came from the backing chain into this node. */
  copyOnRead: 1,
  /** pwriteZeroes: the range may be unmapped. */
  mayUnmap: 4,
  /** pwrite, pwriteZeroes: durable when the request completes. */
  fua: 16,
  /** pwrite: store compressed. */
  compressed: 32,
  /** The guest-visible content does not change (needs only write-unchanged). */
  writeUnchanged: 64,
  /** Waits for, and keeps out, overlapping requests. */
  serialising: 128,
  /** pwriteZeroes: ENOTSUP rather than a slow write of zeroes. */
  noFallback: 256,
  /** With copyOnRead: only populate, `buffer` stays untouched. */
  prefetch: 512,
  /** With serialising: EBUSY rather than waiting. */
  noWait: 1024,
  /** pread: a job's own, for which no guest waits. Drivers that queue let other reads go first. */
  background: 2048,
} as const;
/** A set of Req bits. */
export type RequestFlags = number;

/** The driver's wishes and limits, bytes. 0 = no limit. */
export interface BlockLimits {
  /** Requests are padded to multiples of this (1 … 4096). */
  requestAlignment: number;
  maxTransfer: number;
  optTransfer: number;
  maxPwriteZeroes: number;
  pwriteZeroesAlignment: number;
  maxPdiscard: number;
  pdiscardAlignment: number;
}

/** Limits of a driver that has none. */
export const defaultLimits: BlockLimits = {
  requestAlignment: 1,
  maxTransfer: 0,
  optTransfer: 0,
  maxPwriteZeroes: 0,
  pwriteZeroesAlignment: 0,
  maxPdiscard: 0,
  pdiscardAlignment: 0,
};

/** How blocks are prepared when an image is created or grows. */
export type Preallocation = TypeOf<"PreallocMode">;

/** How `truncate` works. */
export interface TruncateOptions {
  /** The size must be met exactly; otherwise larger is fine (block devices). */
  exact: boolean;
  preallocation: Preallocation;
  /** The new part must read as zeroes even above a longer backing file. */
  zeroNew?: boolean;
}

/** What `getInfo` tells. */
export interface DriverInfo {
  /** Copy-on-write unit, bytes; 0 if there is none. */
  clusterSize: number;
  isDirty?: boolean;
  /** Where the saved machine begins in the guest's address space, bytes. */
  vmStateOffset?: number;
}

/** The driver-specific part of `query-named-block-nodes`/`info` (wire names). */
export interface FormatSpecific {
  type: string;
  data: Record<string, unknown>;
}

/**
 * What `amend` changes: members of the driver's creation options (QAPI's BlockdevCreateOptions, wire names), those that
 * change and no other, `undefined` never among them; for encryption `encrypt`, or for luks the members themselves, as
 * QAPI's BlockdevAmendOptions.
 */
export type AmendOptions = Readonly<Record<string, unknown>>;

/** How `amend` works. */
export interface AmendContext {
  /** Does what may lose access to data (erasing the last key slot). Default false. */
  readonly force?: boolean;
  /** Ends it early, with the signal's reason, where the image can be left whole. */
  readonly signal?: AbortSignal;
  /** Told how far it is; `total` may grow. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Since when a request without an answer is given up at a program's end, ms. */
export interface Unanswered {
  readonly shortMs: number;
  /** Of those that take long by nature: flushes, and what frees or zeroes. */
  readonly longMs: number;
}

/** What a disk lies in that is made in a store. */
export interface StoredChunks {
  /** Of one. */
  readonly bytes: number;
  /** Bytes that parts begin at multiples of. */
  readonly partUnit: number;
  /** Of how many a disk is at most, if it becomes one object. */
  readonly most?: number;
  /** How a name asks for chunks of so many bytes, or for what has no such limit. */
  hint(this: void, bytes: number): string;
}

/** An image that is made in what is there already, `file`. */
export interface ImageInPlace {
  readonly image: { driver: string; size: number; preallocation?: unknown };
  readonly file: NodeSpec;
  /** Nothing may be there, where that can be told (EEXIST). */
  readonly exclusive?: boolean;
}
