/**
 * What a workload is once it was read, whatever it was written in: workers that send requests, each with its mix, sizes, places,
 * pace and end. Plain data: sizes are bytes, times nanoseconds, and everything that was left open has its default.
 */
import type { Errno } from "../../base/errno.ts";
import type { Spread } from "../random/places.ts";
import type { JobPlan } from "./job.ts";

/** What the document of a run calls itself. */
export const RESULT_FORMAT = "blockwright-workload-result";

/** What a request does. */
export type Operation = "read" | "write" | "zero" | "discard" | "flush";

/** All operations, in the order of reports. */
export const operations: readonly Operation[] = ["read", "write", "zero", "discard", "flush"];

/** Those that change what the disk holds. */
export const changing: readonly Operation[] = ["write", "zero", "discard"];

/** How large requests are: one of several sizes by weight, or any multiple of `step` in a range. */
export type Sizes =
  | { readonly kind: "split"; readonly parts: readonly { readonly bytes: number; readonly weight: number }[] }
  | { readonly kind: "range"; readonly min: number; readonly max: number; readonly step: number };

/** Where requests go. */
export interface Locality {
  /** Share of requests that go to random places, percent; the others follow each other. */
  readonly randomPercent: number;
  readonly spread: Spread;
  /** Requests that follow each other from a random place on, >= 1. */
  readonly run: number;
  /** What is left out between requests that follow each other, bytes; negative: backwards. */
  readonly skip: number;
}

/** When requests are meant to begin. */
export type Pace =
  | { readonly kind: "closed" }
  | { readonly kind: "fixed" | "poisson"; readonly perSecond: number; readonly unit: "requests" | "bytes" };

/** When a worker is done: whichever comes first. */
export interface Until {
  readonly requests?: number;
  readonly bytes?: number;
  /** As many bytes as so many times its part of the disk. */
  readonly passes?: number;
  readonly durationNs?: number;
}

/** What is written. */
export interface DataShape {
  /** Share of each block that compresses away, percent. */
  readonly compressPercent: number;
  /** Share of blocks that repeat one of `pool` others, percent. */
  readonly duplicatePercent: number;
  /** Share of blocks that are all zero, percent. */
  readonly zeroPercent: number;
  /** Bytes of a block. */
  readonly blockBytes: number;
  /** Different blocks among the repeated ones. */
  readonly pool: number;
}

/** A part of the disk; without bytes: to its end. */
export interface Region {
  readonly offset: number;
  readonly bytes?: number;
  /** Of the disk's length, instead of bytes. */
  readonly offsetPercent?: number;
  readonly percent?: number;
}

/** A recorded request. */
export interface TraceEntry {
  readonly operation: Operation;
  readonly offset: number;
  readonly bytes: number;
  /** When it was sent, from the begin on; undefined: as soon as there is room. */
  readonly atNs: number | undefined;
  /** Durable when it completes. */
  readonly fua?: boolean;
  /** What it wrote; absent: the recording does not say, and it is made of the seed. */
  readonly data?: Uint8Array;
}

/** One worker. */
export interface WorkerPlan {
  readonly name: string;
  /** Numbers of the workers that must have ended before this one begins. */
  readonly after: readonly number[];
  readonly startDelayNs: number;
  /** Weights. */
  readonly mix: Readonly<Record<Operation, number>>;
  /** Each discard is followed by a write of the same place (fio's trimwrite). */
  readonly rewrites: boolean;
  /** Share of writes that are durable when they complete, percent. */
  readonly fuaPercent: number;
  /** A flush after so many requests that change the disk; 0: none. */
  readonly flushEvery: number;
  readonly flushAtEnd: boolean;
  readonly sizes: Readonly<Record<"read" | "write" | "other", Sizes>>;
  /** Offsets are multiples of it. */
  readonly align: number;
  /** The same by operation, where they differ. */
  readonly aligns?: Readonly<Record<"read" | "write" | "other", number>>;
  readonly locality: Locality;
  readonly region: Region;
  /** Requests under way at once. */
  readonly depth: number;
  readonly pace: Pace;
  /** Rests so long after every so many requests. */
  readonly think: { readonly ns: number; readonly every: number };
  readonly until: Until;
  /** What ends within that time from the worker's begin is not counted. */
  readonly warmupNs: number;
  readonly data: DataShape;
  readonly onError: "stop" | "continue";
  /** Failures that are expected: they are counted, and are no errors of the run. */
  readonly expected: readonly Errno[];
  /** When it ends, so do all that have begun. */
  readonly endsAll: boolean;
  /** A block job over the disk, in the place of requests. */
  readonly job?: JobPlan;
  /** Requests that were recorded, in the place of drawn ones: read anew at each call. */
  readonly trace?: () => Iterable<TraceEntry>;
}

/** Something in a workload's file that has no effect here. */
export interface Ignored {
  /** The option or member. */
  readonly name: string;
  /** Where it stands, for people: `line 3, [global]`, `workers[0]`. */
  readonly where: string;
  readonly reason: string;
}

/** A workload. */
export interface Plan {
  readonly name: string;
  readonly format: "blockwright" | "fio";
  readonly workers: readonly WorkerPlan[];
  readonly ignored: readonly Ignored[];
  /** What the file itself asks for; the caller's wishes count more. */
  readonly wishes: Wishes;
}

/** Where and how a workload is run. */
export interface Wishes {
  readonly seed?: number;
  readonly clock?: "real" | "virtual";
  /** Name of a shipped model, or a model. */
  readonly device?: unknown;
  /** A path, URL, or description of a node; see run/target.ts. */
  readonly target?: unknown;
  /** Length of a disk that is made for it, bytes. */
  readonly size?: number;
  /** Bypasses the page cache where it can. */
  readonly direct?: boolean;
}

/** Something wrong with a workload, a device model or a result: bad input, exit status 2. */
export class WorkloadError extends Error {
  override readonly name = "WorkloadError";
}

/** Sizes of a worker that has one only. */
export function oneSize(bytes: number): Sizes {
  return { kind: "split", parts: [{ bytes, weight: 1 }] };
}

/** The smallest and the largest size. */
export function extremes(sizes: Sizes): { min: number; max: number } {
  if (sizes.kind === "range") return { min: sizes.min, max: sizes.max };
  const all = sizes.parts.map((part) => part.bytes);
  return { min: Math.min(...all), max: Math.max(...all) };
}

/** The sizes that an operation takes. */
export function sizesFor(plan: WorkerPlan, operation: Operation): Sizes {
  return operation === "read" || operation === "write" ? plan.sizes[operation] : plan.sizes.other;
}

/** What an operation's offsets are multiples of. */
export function alignFor({ align, aligns }: WorkerPlan, operation: Operation): number {
  if (!aligns) return align;
  return operation === "read" || operation === "write" ? aligns[operation] : aligns.other;
}

/** The worker's operations that have a place and a size. */
export function changesOrReads({ mix }: WorkerPlan): Operation[] {
  return operations.filter((operation) => operation !== "flush" && mix[operation] > 0);
}

/** Whether a worker changes the disk. */
export function writes(plan: WorkerPlan): boolean {
  return changing.some((operation) => plan.mix[operation] > 0);
}
