/** What a mirror job is made of: the arguments, checked, and the rights that were taken for it. */
import type { Lease } from "../../base/lease.ts";
import type { FilterLease, RootLease } from "../../block/graph/edges.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { BlockJobOptions } from "../core/block-job.ts";
import type { OnError } from "../core/error-policy.ts";
import type { SyncBitmap } from "./by-bitmap.ts";
import type { MirrorTop } from "./top.ts";

/** What happens to the target's backing link when the mirror takes the source's place. */
export type BackingMode = "leave" | "source-chain" | "open";

/** What a mirror job is made of. */
export interface MirrorInit extends BlockJobOptions {
  /** The filter, inserted above the source. */
  top: MirrorTop;
  /** The same as a node in its place. */
  filter: FilterLease;
  /** The target's being writable (active commit). */
  writable: Lease;
  /** The job's edge to the target, with write permission. */
  target: RootLease;
  /** Copy only what is allocated above this node; undefined: everything. */
  base: BlockNode | undefined;
  syncNone: boolean;
  /** Copy what this says, and settle it at the end. */
  syncBitmap?: SyncBitmap | undefined;
  zeroTarget: boolean;
  backingMode: BackingMode;
  activeCommit: boolean;
  replaces: string | undefined;
  granularity: number;
  bufBytes: number;
  onSourceError: OnError;
  onTargetError: OnError;
  unmap: boolean;
  writeBlocking: boolean;
}
