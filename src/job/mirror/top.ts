/**
 * The filter that a mirror (or active commit) puts above its source: guest writes pass through it, so that the job sees
 * them, marks them dirty or, in write-blocking mode, sends them to the target as well. A failed target write never
 * fails the guest's. Source: behaviour of QEMU's mirror_top filter.
 *
 * ActiveWrites is its sink: it brings the guest's writes to the target as they happen (copy-mode=write-blocking), or marks dirty
 * what they changed (background).
 *
 * Invariants: no copy of the job overlaps a write that goes to both sides; what the target did not take is dirty before the policy
 * is asked; a write never fails the guest's. Source: behaviour of QEMU 7.2's block/mirror.c.
 */
import { type Answer, andThen } from "../../base/answer.ts";
import { type BlockNode, type Child, childOf, nodeOf } from "../../block/model/node.ts";
import {
  type BlockDriver,
  type DriverType,
  type NodeSpec,
  type OpenContext,
  Role,
  type Permissions,
} from "../../block/model/contract.ts";
import { Perm, filterPermissions } from "../../block/model/permissions.ts";
import { assert } from "../../base/assert.ts";
import { type ByteRange, alignDown, alignUp, type RangeLock } from "../../base/ranges.ts";
import { bytesOf, failedGranules } from "../../block/copy/pieces.ts";
import type { DirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";
import type { JobProgress } from "../core/pace.ts";

/** A change that the guest makes through the filter. */
export interface GuestChange {
  offset: number;
  bytes: number;
  /** Applies the same change to the job's target. `data` is a private copy of what the guest wrote. */
  kind: "write" | "zeroes" | "discard";
  data?: Uint8Array;
  flags: number;
}

/** What the filter needs of the job behind it. */
export interface MirrorSink {
  /** Whether guest writes go to the target synchronously now. */
  readonly copiesActively: boolean;
  /** Waits for copies that overlap, and holds them off until the returned function is called. */
  beginActiveWrite(offset: number, bytes: number): Promise<() => void>;
  /** The source has the change: bring it to the target. Never throws. */
  writeToTarget(change: GuestChange): Promise<void>;
  /** The source has the change and the target has not. */
  markDirty(offset: number, bytes: number): void;
}

/** The filter's driver instance. */
export class MirrorTop implements BlockDriver {
  readonly #node: BlockNode;
  readonly #below: Child;
  /** Set by the job once it is initialised. */
  sink: MirrorSink | undefined;
  /** The job is over: the filter needs no permissions. */
  stopped = false;
  /** Active commit: everything above the base is inconsistent on its own. */
  isCommit = false;

  constructor(node: BlockNode, below: Child) {
    this.#node = node;
    this.#below = below;
  }

  length(): number {
    return this.#below.node.length;
  }

  pread(offset: number, buffer: Uint8Array, flags: number): Answer<void> {
    return this.#below.pread(offset, buffer, flags);
  }

  pwrite(offset: number, buffer: Uint8Array, flags: number): Answer<void> {
    const copies = this.sink?.copiesActively ?? false;
    // The guest may change its buffer while the two writes are under way; both must see the same bytes.
    const data = copies ? buffer.slice() : buffer;
    return this.#change({ kind: "write", offset, bytes: buffer.byteLength, data, flags }, () =>
      this.#below.pwrite(offset, data, flags),
    );
  }

  pwriteZeroes(offset: number, bytes: number, flags: number): Answer<void> {
    return this.#change({ kind: "zeroes", offset, bytes, flags }, () =>
      this.#below.pwriteZeroes(offset, bytes, flags),
    );
  }

  pdiscard(offset: number, bytes: number): Answer<void> {
    return this.#change({ kind: "discard", offset, bytes, flags: 0 }, () =>
      this.#below.pdiscard(offset, bytes),
    );
  }

  #change(change: GuestChange, apply: () => Answer<void>): Answer<void> {
    const { sink } = this;
    if (sink?.copiesActively) return this.#changeBoth(sink, change, apply);
    return andThen(apply(), () => this.sink?.markDirty(change.offset, change.bytes));
  }

  async #changeBoth(sink: MirrorSink, change: GuestChange, apply: () => Answer<void>): Promise<void> {
    const end = await sink.beginActiveWrite(change.offset, change.bytes);
    try {
      await apply();
      if (sink.copiesActively) await sink.writeToTarget(change);
      else sink.markDirty(change.offset, change.bytes);
    } finally {
      end();
    }
  }

  childPermissions(_child: Child, parent: Permissions): Permissions {
    if (this.stopped) return { perm: 0, shared: Perm.all };
    const { perm, shared } = filterPermissions(parent);
    if (!this.isCommit) return { perm, shared };
    return { perm: perm & ~Perm.consistentRead, shared: shared | Perm.write };
  }

  /** The node that the filter presents. */
  get source(): BlockNode {
    return this.#below.node;
  }

  get node(): BlockNode {
    return this.#node;
  }
}

async function open(context: OpenContext, spec: NodeSpec): Promise<MirrorTop> {
  const below = await context.openChild(spec["backing"] as string, "backing", Role.filtered | Role.primary);
  return new MirrorTop(nodeOf(context.node), childOf(below));
}

/** Only jobs insert it; QAPI does not offer it. */
export const mirrorTop: DriverType = { name: "mirror_top", kind: "filter", comesAndGoes: true, open };

/** What the writes need of the mirror (job.ts). */
export interface ActiveWritesInit {
  readonly init: {
    readonly granularity: number;
    readonly target: { readonly edge: Child };
    readonly writeBlocking: boolean;
  };
  readonly bitmap: DirtyBitmap;
  /** What the job has written to its target. */
  readonly written: Bitmap;
  readonly progress: JobProgress;
  /** What is being copied. */
  readonly ranges: RangeLock;
  /** Length of the source, bytes. */
  diskLength(): number;
  /** The job goes on in spite of an error of its target. */
  goesOnAfter(error: unknown): boolean;
  /** The job has failed, or is cancelled. */
  isEnding(): boolean;
  /** A write to the target failed: the policy is to be asked. */
  failed(error: unknown): void;
  /** Something may be dirty, or the job has failed. */
  wake(): void;
}

/** The sink of a mirror's filter. */
export class ActiveWrites implements MirrorSink {
  readonly #job: ActiveWritesInit;
  /** Bytes on their way to the target. */
  bytes = 0;

  constructor(job: ActiveWritesInit) {
    this.#job = job;
  }

  get copiesActively(): boolean {
    return this.#job.init.writeBlocking && !this.#job.isEnding();
  }

  async beginActiveWrite(offset: number, bytes: number): Promise<() => void> {
    const unit = this.#job.init.granularity;
    const start = alignDown(offset, unit);
    const held = await this.#job.ranges.exclusive(start, alignUp(offset + bytes, unit) - start);
    return () => this.#job.ranges.end(held);
  }

  async writeToTarget(change: GuestChange): Promise<void> {
    const { progress } = this.#job;
    const { bytes } = change;
    this.#markClean(change);
    progress.increaseRemaining(bytes);
    this.bytes += bytes;
    try {
      await this.#applyToTarget(change);
      progress.done(bytes);
    } catch (error) {
      await this.#split(change, error);
    } finally {
      this.bytes -= bytes;
      assert(this.bytes >= 0, "more active bytes ended than began");
      this.#job.wake();
    }
  }

  /** Whole granules only: of others the rest may be dirty for reasons of its own. */
  #markClean({ offset, bytes }: GuestChange): void {
    const { init, bitmap } = this.#job;
    const { granularity: unit } = init;
    const inner = alignUp(offset, unit);
    const end = offset + bytes === this.#job.diskLength() ? offset + bytes : alignDown(offset + bytes, unit);
    if (end > inner) bitmap.bitmap.reset(inner, end - inner);
  }

  async #applyToTarget(change: GuestChange): Promise<void> {
    await this.#request(change);
    this.#job.written.set(change.offset, change.bytes);
  }

  /** Brings all of a failed change to the target but the granules that fail again. Never rejects. */
  async #split(change: GuestChange, first: unknown): Promise<void> {
    try {
      const failed = await failedGranules(change, first, {
        granule: this.#job.init.granularity,
        copy: (part) => this.#applyToTarget(partOf(change, part)),
        goesOn: (last) => this.#job.goesOnAfter(last),
      });
      for (const { offset, bytes } of failed) this.markDirty(offset, bytes);
      this.#job.progress.done(change.bytes - bytesOf(failed));
      this.#job.failed(failed[0]!.error);
    } catch (error) {
      this.markDirty(change.offset, change.bytes);
      this.#job.failed(error);
    }
  }

  #request({ kind, offset, bytes, data, flags }: GuestChange): Answer<void> {
    const { edge: target } = this.#job.init.target;
    if (kind === "write" && data) return target.pwrite(offset, data, flags);
    return kind === "zeroes" ? target.pwriteZeroes(offset, bytes, flags) : target.pdiscard(offset, bytes);
  }

  markDirty(offset: number, bytes: number): void {
    this.#job.bitmap.bitmap.set(offset, bytes);
  }
}

function partOf(change: GuestChange, { offset, bytes }: ByteRange): GuestChange {
  const at = offset - change.offset;
  assert(at >= 0 && at + bytes <= change.bytes, "parts within their whole");
  const part = { ...change, offset, bytes };
  return change.data ? { ...part, data: change.data.subarray(at, at + bytes) } : part;
}
