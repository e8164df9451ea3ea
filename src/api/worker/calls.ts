/**
 * What a page asks of an engine in a worker: the calls of the engine's port and of a disk's port. Control of nodes and
 * jobs is QMP's, over a port of its own (`monitor`); these calls are for data and for what JSON can't carry.
 */
import type { Errno } from "../../base/errno.ts";
import { blockError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { CheckOptions, CheckReport } from "../check.ts";
import type { CompareOptions, CompareResult } from "../compare.ts";
import type { ConvertOptions } from "../convert.ts";
import type { ImportImageOptions, ImportImageSpec } from "../import.ts";
import type { ResizeOptions } from "../resize.ts";
import type { ImageStreamOptions } from "../image-stream.ts";
import type { GuestDiskOptions } from "../guest.ts";
import type { MapExtent } from "../map.ts";
import type { ImageInfo } from "../node.ts";
import type { WholeDiskOptions } from "../running-guest.ts";
import type { SnapshotInfo, SnapshotRef } from "../snapshots.ts";
import type { CreateImageSpec, NewFile } from "../open.ts";
import type { OpenSpec } from "../specs.ts";
import type { ListImagesOptions, StoredImage } from "../stored.ts";
import type { GuestFailure } from "../../machine/machine.ts";
import type { GuestDiskStatus } from "../guest-disk/status.ts";
import type { OpenGuestDiskOptions } from "../guest-disk/options.ts";
import type { News } from "./feed.ts";
import type { PortLike } from "./port.ts";

/** Memory that both sides see, in slots; only where SharedArrayBuffer exists. */
export interface SharedSlots {
  buffer: SharedArrayBuffer;
  /** Bytes of a slot. */
  slotBytes: number;
}

/** What is told of a disk when it is opened. */
export interface DiskFacts {
  name: string;
  /** Bytes. */
  length: number;
  readOnly: boolean;
}

/** What is told of a guest's disk. */
export interface GuestFacts {
  /** Bytes. */
  length: number;
  readOnly: boolean;
  session: number;
}

/** What is told of a disk of openGuestDisk(). */
export interface OpenedFacts extends GuestFacts {
  /** Name of its node. */
  node: string;
}

/** Where a disk's calls go. */
interface DiskPort {
  port: PortLike;
  shared: SharedSlots | undefined;
}

/** The calls of the engine's port. */
export type EngineCalls = {
  /** Serves QMP on `port`. */
  monitor: { args: { port: PortLike }; value: void };
  /** Opens a node, as openNode(); it lives as long as its handle. */
  open: { args: { spec: OpenSpec } & DiskPort; value: DiskFacts };
  /** A handle on a node that is there. */
  disk: { args: { node: string } & DiskPort; value: DiskFacts };
  /** A node as a guest's disk: a device of the engine's machine. */
  guest: { args: { node: string; options: GuestDiskOptions; port: PortLike }; value: GuestFacts };
  /** A disk over an image on a server, with all that keeps it going; see openGuestDisk(). */
  openGuestDisk: {
    args: { options: OpenGuestDiskOptions; guest: PortLike; control: PortLike };
    value: OpenedFacts;
  };
  /** STOP (false) and RESUME (true) of the machine after number `seen`; first how it is. */
  runState: { args: { seen: number }; value: News<boolean> };
  stop: { args: object; value: void };
  cont: { args: object; value: void };
  createImage: { args: { spec: CreateImageSpec; overwrite: boolean }; value: void };
  removeImage: { args: { file: NewFile }; value: void };
  /** Answered when the watch is over. */
  autoResume: { args: { job: string | undefined; probeMs: number | undefined }; value: void };
  /** Flushes all that is open. */
  flush: { args: object; value: void };
  /** Closes the engine: jobs are cancelled, images closed. */
  close: { args: object; value: void };
};

/** Where what a call tells on the way goes: `{ name, told }` each, `{ over: true }` at its end. */
interface Told {
  told?: PortLike | undefined;
}

/** The options of a copy that cross. */
export type RemoteConvertOptions = Omit<ConvertOptions, "signal" | "onProgress" | "salvage">;

/** Work on whole images, beside them in workers that have the library; nodes are given by their names. */
export type ImageCalls = {
  /** The description of the image that a name leads to. */
  describe: { args: { name: string }; value: OpenSpec };
  check: {
    args: { image: string | OpenSpec; repair: CheckOptions["repair"] | undefined } & Told;
    value: CheckReport;
  };
  compare: {
    args: { nodes: readonly string[]; options: Pick<CompareOptions, "strict" | "offset"> } & Told;
    value: CompareResult;
  };
  convert: {
    args: {
      sources: readonly string[];
      target: string;
      options: RemoteConvertOptions;
      salvage: boolean;
    } & Told;
    value: void;
  };
  /** Answers the new length, bytes. */
  resize: {
    args: { node: string; bytes: number; options: Pick<ResizeOptions, "preallocation"> };
    value: number;
  };
  importImage: {
    args: {
      blob: Blob;
      spec: ImportImageSpec;
      options: Pick<ImportImageOptions, "format" | "overwrite">;
    } & Told;
    value: void;
  };
  listImages: { args: { driver: ListImagesOptions["driver"] }; value: StoredImage[] };
};

/** A range of bytes and, if it is so, the slot that holds them. */
interface Place {
  offset: number;
  bytes: number;
  slot?: number;
}

/** The calls of a disk's port. Each answer of `length` is the disk's length now. */
export type DiskCalls = {
  /** Without a slot the bytes come with the answer. */
  read: { args: Place; value: { length: number; data?: Uint8Array<ArrayBuffer> } };
  write: { args: Place & { data?: Uint8Array }; value: { length: number } };
  zeroes: { args: Place & { unmap: boolean }; value: { length: number } };
  discard: { args: Place; value: { length: number } };
  flush: { args: object; value: { length: number } };
  info: { args: { backingChain: boolean }; value: ImageInfo };
  /** Extents from `offset` on, at most `most` of them. */
  map: { args: { offset: number; bytes: number; most: number }; value: MapExtent[] };
  /** Fixes the point in time; the pieces are then asked for one by one, and `streamEnd` takes it down. */
  streamStart: { args: { options: RemoteStreamOptions }; value: number };
  streamNext: { args: { id: number }; value: StreamPiece };
  streamEnd: { args: { id: number }; value: void };
  snapshots: { args: object; value: readonly SnapshotInfo[] };
  snapshotCreate: { args: { name: string }; value: SnapshotInfo };
  snapshotApply: { args: { which: SnapshotRef; options?: WholeDiskOptions }; value: void };
  snapshotRemove: { args: { which: SnapshotRef }; value: void };
  discardOverlay: { args: { options?: WholeDiskOptions }; value: void };
  close: { args: object; value: void };
};

/** The options of an export that cross. */
export type RemoteStreamOptions = Omit<ImageStreamOptions, "signal" | "onProgress">;

/** A piece of an export, none at its end, and how far it is. */
export interface StreamPiece {
  data?: Uint8Array;
  done: number;
  total: number;
}

/** The calls of a guest's disk. */
export type GuestCalls = {
  read: { args: { offset: number; bytes: number }; value: Uint8Array };
  write: { args: { offset: number; data: Uint8Array }; value: void };
  flush: { args: object; value: void };
  /** Requests that failed. */
  failures: { args: { seen: number }; value: News<GuestFailure> };
  publish: { args: { code: Errno; action: "report" | "stop" }; value: void };
  close: { args: object; value: void };
};

/** The calls beside the data of a disk of openGuestDisk(). */
export type GuestControlCalls = {
  status: { args: { seen: number }; value: News<GuestDiskStatus> };
  pauseFill: { args: object; value: void };
  resumeFill: { args: object; value: void };
  close: { args: object; value: void };
  remove: { args: object; value: void };
};

/** Refuses requests that would take too much memory, before any is taken. */
export function checkBytes(bytes: number): void {
  if (bytes >= 0 && bytes <= limits.maxRemoteBytes) return;
  throw blockError("EINVAL", "remote", `a request of ${bytes} bytes is above ${limits.maxRemoteBytes}`);
}

/** Throws EINVAL unless `value` is a whole number of that range. */
export function checkRange(
  name: string,
  value: number,
  { least, most }: { least: number; most: number },
): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw blockError("EINVAL", "remote", `${name} must be a whole number, ${least} … ${most}`);
}

/** Memory that both ends share: `count` slots. */
export function makeSlots(count: number, slotBytes: number): SharedSlots {
  return { buffer: new SharedArrayBuffer(count * slotBytes), slotBytes };
}
