/**
 * What a checkpoint says: what is done, between which disks, how far it is, and of what bytes the target consisted then. Written as JSON
 * with the two tables behind it.
 *
 * Invariants: `outstanding` has a bit for each granule that is not copied for good, so that everything else was durable in the target
 * when this was written; a digest is that of a region's bytes with the outstanding granules taken as zeroes, or 0 where all of it is
 * outstanding.
 */
import { CommandError } from "../../base/errors.ts";

/** What can go on after its process. */
export const checkpointKinds = ["mirror", "backup", "stream", "commit", "convert"] as const;

/** One of them. */
export type CheckpointKind = (typeof checkpointKinds)[number];

/** begun: nothing is copied for good; copying; ending: all is copied, and headers may be changed; done: nothing is left to do. */
export type CheckpointStage = "begun" | "copying" | "ending" | "done";

/** A file, or what stands for one, that a disk consists of. */
export interface Identity {
  /** Canonical path, URL, or a description. */
  readonly name: string;
  /** Device and inode, where there are such things. */
  readonly identity?: string | undefined;
  /** Bytes. */
  readonly size?: number | undefined;
  /** Changes with the content; absent: nobody can tell. */
  readonly version?: string | undefined;
}

/** What the copying is, as far as it decides what the target will hold. */
export type CheckpointWork = Readonly<Record<string, string | number | boolean>>;

/** The part that is JSON. */
export interface CheckpointHead {
  readonly kind: CheckpointKind;
  readonly stage: CheckpointStage;
  readonly work: CheckpointWork;
  /** What is read and must stay as it is. */
  readonly sources: readonly Identity[];
  /** What is written: by its names alone, since it changes. */
  readonly targets: readonly string[];
  /** Length of the disk, bytes. */
  readonly length: number;
  /** Bytes of a bit, and of a digest. */
  readonly granularity: number;
  readonly region: number;
  /** Processes that have worked on it, this one included. */
  readonly attempts: number;
  /** Bytes that all of them have copied, as far as is known. */
  readonly copied: number;
  /** How the disks are opened: source and target. */
  readonly disks: readonly object[];
  /** The program's own: its command line. */
  readonly note?: unknown;
}

/** A checkpoint. */
export interface CheckpointState extends CheckpointHead {
  readonly outstanding: Uint8Array;
  readonly digests: BigUint64Array;
}

/** Bytes of the two tables. */
export function tableBytes({ length, granularity, region }: CheckpointHead): {
  bits: number;
  digests: number;
} {
  return { bits: Math.ceil(length / granularity / 8), digests: Math.ceil(length / region) * 8 };
}

/** A state in which nothing is copied. */
export function freshState(head: Omit<CheckpointHead, "stage" | "attempts" | "copied">): CheckpointState {
  const begun: CheckpointHead = { ...head, stage: "begun", attempts: 1, copied: 0 };
  const { bits, digests } = tableBytes(begun);
  return {
    ...begun,
    outstanding: new Uint8Array(bits).fill(0xff),
    digests: new BigUint64Array(digests / 8),
  };
}

/** Its bytes: JSON, and the tables. */
export function encodeState(state: CheckpointState): { json: Uint8Array; tables: Uint8Array } {
  const { outstanding, digests, ...head } = state;
  const tables = new Uint8Array(outstanding.length + digests.byteLength);
  tables.set(outstanding);
  const view = new DataView(tables.buffer, outstanding.length);
  digests.forEach((digest, at) => view.setBigUint64(at * 8, digest, true));
  return { json: new TextEncoder().encode(JSON.stringify(head)), tables };
}

/** The reverse. Throws CommandError for what was written by a version that this one does not know. */
export function decodeState(json: Uint8Array, tables: Uint8Array): CheckpointState {
  const head = JSON.parse(new TextDecoder().decode(json)) as CheckpointHead;
  if (!checkpointKinds.includes(head.kind)) throw new CommandError(`it is one of '${String(head.kind)}'`);
  const { bits, digests } = tableBytes(head);
  if (tables.length !== bits + digests)
    throw new CommandError("its tables have another size than they should");
  const view = new DataView(tables.buffer, tables.byteOffset + bits);
  const values = new BigUint64Array(digests / 8);
  for (let at = 0; at < values.length; at++) values[at] = view.getBigUint64(at * 8, true);
  return { ...head, outstanding: tables.slice(0, bits), digests: values };
}
