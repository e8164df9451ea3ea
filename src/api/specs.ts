/**
 * The types of what openNode() opens: QAPI's descriptions (wire names) with children of the library's own kinds, and what the
 * library alone has: a buffer as a disk, a Blob, a manifest at hand, what a copy-before-write filter keeps, drivers of one's own.
 */
import type { BlockdevOptions, BlockdevRef, TypeOf } from "../wire/qapi/index.ts";

/** The drivers that QMP knows. */
export type DriverName = BlockdevOptions["driver"];

/** A child: the name of a node that is open in the engine, or a description of its own. A file is `file("x")`, never `"x"`. */
export type OpenChild = string | OpenSpec;

/** A member of a description: where QAPI has a child, any child of the library's. */
type WithOwnChildren<V> = BlockdevRef extends V ? OpenChild | Exclude<V, BlockdevRef> : V;

/** A description by QAPI, its children being the library's. */
export type Described<T> = { [K in keyof T]: WithOwnChildren<T[K]> };

/** How a node of the driver `D` is described. */
export type DriverSpec<D extends DriverName> = Described<Extract<BlockdevOptions, { driver: D }>>;

/** A disk in memory that grows by writes. */
export interface MemoryOptions {
  driver: "memory";
  /** Its length at first, bytes; default 0. */
  size?: number;
  /** ENOSPC when its pages would take more, bytes. */
  "max-bytes"?: number;
  "node-name"?: string;
  "read-only"?: boolean;
  "auto-read-only"?: boolean;
  discard?: "ignore" | "unmap";
  "detect-zeroes"?: TypeOf<"BlockdevDetectZeroesOptions">;
}

/** A disk over the caller's own buffer, which both may use at the same time; its length is fixed. */
export interface MemoryBufferOptions {
  driver: "memory";
  buffer: Uint8Array;
  "node-name"?: string;
  "read-only"?: boolean;
  discard?: "ignore" | "unmap";
  "detect-zeroes"?: TypeOf<"BlockdevDetectZeroesOptions">;
}

/** A Blob or File as a read-only disk. */
export interface BlobOptions {
  driver: "blob";
  blob: Blob;
  "node-name"?: string;
  "read-only"?: true;
  "auto-read-only"?: true;
}

type HttpDescription = DriverSpec<"http"> | DriverSpec<"https">;

/** A disk on a web server with its manifest at hand; by QAPI's options the manifest is a URL or file name. */
export type HttpDiskOptions = Omit<HttpDescription, "manifest"> & { manifest: Uint8Array };

/** What the copy-before-write filter `file` keeps: the disk as it was when the filter was put in. Read-only. */
export interface SnapshotAccessOptions {
  driver: "snapshot-access";
  file: OpenChild;
  "node-name"?: string;
  "read-only"?: boolean;
  "auto-read-only"?: boolean;
}

/** A disk that is being filled from `backing`, on storage of any kind, whose own content does not count; see liveRestore(). */
export interface AllocTrackOptions {
  driver: "alloc-track";
  file: OpenChild;
  backing: OpenChild;
  /** Where it is kept what `file` has; raw, empty at first. */
  map?: OpenChild;
  "node-name"?: string;
  "read-only"?: boolean;
  discard?: "ignore" | "unmap";
}

declare const ownDriver: unique symbol;

/** A description for a driver of one's own, made by custom(). */
export interface CustomSpec {
  readonly driver: string & { readonly [ownDriver]: true };
}

/** What openNode() opens. */
export type OpenSpec =
  | { [D in Exclude<DriverName, "memory">]: DriverSpec<D> }[Exclude<DriverName, "memory">]
  | MemoryOptions
  | MemoryBufferOptions
  | BlobOptions
  | HttpDiskOptions
  | SnapshotAccessOptions
  | AllocTrackOptions
  | CustomSpec;
