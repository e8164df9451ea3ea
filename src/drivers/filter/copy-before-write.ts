/**
 * copy-before-write: a filter that keeps a point-in-time image. Before a guest write, zero write or discard reaches
 * `file`, the clusters it touches are copied to `target` unless they have been already. A backup job works on the same
 * BlockCopy, so that both never copy a cluster twice.
 *
 * Invariants: the source is written only when its old content is on the target, or the filter has been told to give the
 * snapshot up (on-cbw-error=break-snapshot) and has. A failed copy emits no event: the guest's write fails.
 * Source: QAPI BlockdevOptionsCbw; behaviour of QEMU 7.2.
 */
import { AssertionError, assert } from "../../base/assert.ts";
import type { Answer } from "../../base/answer.ts";
import { type BlockNode, type Child, childOf, nodeOf } from "../../block/model/node.ts";
import { BlockError, CommandError } from "../../base/errors.ts";
import type { Errno } from "../../base/errno.ts";
import { BlockCopy, type CopyError, type CopyPass } from "../../block/copy/block-copy.ts";
import { RangeLock, type ByteRange, alignDown, alignUp, isPowerOfTwo } from "../../base/ranges.ts";
import { chainContains } from "../../block/model/chain.ts";
import type { SnapshotSource } from "../../block/model/snapshot-source.ts";
import { blockStatusAbove } from "../../block/io/status.ts";
import { limits } from "../../base/limits.ts";
import { refresh } from "../../block/graph/edges.ts";
import { Bitmap } from "../../kernels/bitmap.ts";
import { type DirtyBitmap, findDirtyBitmap, lendBitmap } from "../../block/model/dirty-bitmap.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type DriverType,
  type NodeSpec,
  type OpenContext,
  type OwnWork,
  Req,
  type RequestFlags,
  Role,
  type Permissions,
} from "../../block/model/contract.ts";
import { childOption, optionError, sizeOption, stringOption } from "../../block/model/options.ts";
import { Perm, filterPermissions } from "../../block/model/permissions.ts";

interface CopyBeforeWriteInit {
  node: BlockNode;
  file: Child;
  target: Child;
  copy: BlockCopy;
  /** Fails the guest's write when the copy fails; otherwise the snapshot is given up. */
  breakGuestWrite: boolean;
  /** How long a guest write waits for its copy, ms; 0 = as long as it takes. */
  timeoutMs: number;
}

/** The filter's driver instance. */
export class CopyBeforeWrite implements BlockDriver, SnapshotSource {
  /** What is still to be copied; shared with the backup job. */
  readonly copy: BlockCopy;
  readonly target: Child;
  readonly #node: BlockNode;
  readonly #file: Child;
  readonly #breakGuestWrite: boolean;
  readonly #timeoutMs: number;
  #snapshotError: Errno | undefined;
  #discards = false;
  /** Called when the snapshot is given up. */
  onBroken: (() => void) | undefined;
  /** Clusters that the source may not hold any more: they are read from the target. */
  readonly #done: Bitmap;
  /** What belongs to the snapshot: the option `bitmap`, less what was discarded. */
  readonly #access: Bitmap;
  /** They as the nodes show them. */
  readonly #shown: readonly DirtyBitmap[];
  /** Snapshot reads of the source under way; guest writes wait for them. */
  readonly #frozen = new RangeLock();
  /** Copies whose guest write has timed out. */
  #abandoned = 0;
  readonly ownWork: OwnWork = { isBusy: () => this.#abandoned > 0 };

  constructor(init: CopyBeforeWriteInit) {
    this.copy = init.copy;
    this.target = init.target;
    this.#node = init.node;
    this.#file = init.file;
    this.#breakGuestWrite = init.breakGuestWrite;
    this.#timeoutMs = init.timeoutMs;
    this.#done = new Bitmap(init.copy.length, init.copy.clusterSize, init.node.services.kernels);
    this.#access = init.copy.bitmap.clone();
    this.#shown = [
      lendBitmap(init.file.node, init.copy.bitmap),
      lendBitmap(init.node, this.#done),
      lendBitmap(init.node, this.#access),
    ];
  }

  /** From now on what was copied is discarded at the source: nobody needs it there. Throws where others don't allow that. */
  async discardWhatIsCopied(): Promise<void> {
    this.#discards = true;
    await refresh([this.#node]);
    // A source that can't let go keeps it.
    this.copy.onCopied = async ({ offset, bytes }) => {
      await Promise.resolve(this.#file.pdiscard(offset, bytes)).catch(() => undefined);
    };
  }

  /** Why the target is no point-in-time image any more (break-snapshot). */
  get snapshotError(): Errno | undefined {
    return this.#snapshotError;
  }

  length(): number {
    return this.#file.length;
  }

  pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Answer<void> {
    return this.#file.pread(offset, buffer, flags);
  }

  async pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    await this.#copyBefore("pwrite", { offset, bytes: buffer.byteLength, flags });
    await this.#file.pwrite(offset, buffer, flags);
  }

  async pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Promise<void> {
    await this.#copyBefore("pwriteZeroes", { offset, bytes, flags });
    await this.#file.pwriteZeroes(offset, bytes, flags);
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    await this.#copyBefore("pdiscard", { offset, bytes, flags: 0 });
    await this.#file.pdiscard(offset, bytes);
  }

  /** The guest's flush is no business of the target's. */
  flushes(child: Child): boolean {
    return child === this.#file;
  }

  childPermissions(child: Child, parent: Permissions): Permissions {
    if (child.role & Role.filtered) {
      const { perm, shared } = filterPermissions(parent);
      if (this.#node.parents.size === 0) return { perm, shared };
      // Whoever writes past the filter would change what has not been copied yet.
      const reads = perm & Perm.write ? Perm.consistentRead : 0;
      const discards = this.#discards ? Perm.write : 0;
      return { perm: perm | reads | discards, shared: shared & ~(Perm.write | Perm.resize) };
    }
    // Others may write the target: it may be an overlay of the guest's disk. Its size was checked once, so it stays.
    return { perm: Perm.write, shared: Perm.all & ~Perm.resize };
  }

  close(): Promise<void> {
    assert(this.#frozen.size === 0 && this.#abandoned === 0, "nothing is read of a filter that goes");
    for (const bitmap of this.#shown) bitmap.release();
    this.copy.free();
    this.#done.free();
    this.#access.free();
    return Promise.resolve();
  }

  /** Reads the source's content of the moment when the filter was opened. EACCES for what does not belong to it. */
  async preadSnapshot(offset: number, buffer: Uint8Array): Promise<void> {
    const end = offset + buffer.byteLength;
    for (let at = offset; at < end;) {
      const held = this.#holdSnapshot(at, end - at);
      try {
        await held.child.pread(at, buffer.subarray(at - offset, at - offset + held.bytes));
      } finally {
        held.release();
      }
      at += held.bytes;
    }
  }

  /** Block status of what preadSnapshot() reads; all of it counts as allocated. */
  async snapshotStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const held = this.#holdSnapshot(offset, bytes);
    try {
      const { data, zero, bytes: reach } = await blockStatusAbove(held.child.node, offset, held.bytes);
      return { bytes: reach, data, zero, allocated: true };
    } finally {
      held.release();
    }
  }

  /** The reader is done with a range: whole clusters of it leave the snapshot and are not copied any more. */
  async discardSnapshot(offset: number, bytes: number): Promise<void> {
    const { clusterSize, length } = this.copy;
    const start = alignUp(offset, clusterSize);
    const end = offset + bytes >= length ? length : alignDown(offset + bytes, clusterSize);
    if (start >= end) return;
    const range = { offset: start, bytes: end - start };
    this.#access.reset(range.offset, range.bytes);
    this.copy.markClean(range);
    await this.copy.inFlight.waitOverlap(range);
    await this.target.pdiscard(range.offset, range.bytes);
  }

  /** Finds where a run of the snapshot lies, and keeps the guest from writing it there until it is released. */
  #holdSnapshot(offset: number, bytes: number): { child: Child; bytes: number; release: () => void } {
    const end = Math.min(offset + bytes, this.copy.length);
    if (this.#snapshotError !== undefined || this.#access.nextZero(offset, end) >= 0) {
      throw new BlockError({ code: "EACCES", op: "pread", node: this.#node.name, offset, bytes });
    }
    const done = this.#done.get(offset);
    const change = done ? this.#done.nextZero(offset, end) : this.#done.nextDirty(offset, end);
    const reach = (change < 0 ? end : change) - offset;
    assert(reach > 0, "a look finds something");
    if (done) return { child: this.target, bytes: reach, release: () => undefined };
    const held = this.#frozen.add({ offset, bytes: reach });
    return { child: this.#file, bytes: reach, release: () => this.#frozen.end(held) };
  }

  async #copyBefore(
    op: string,
    request: { offset: number; bytes: number; flags: RequestFlags },
  ): Promise<void> {
    if (request.flags & Req.writeUnchanged) return;
    const { offset, end } = this.#clusters(request);
    if (end <= offset) return;
    const range = { offset, bytes: end - offset };
    if (this.#snapshotError === undefined) await this.#copyOrBreak(op, range);
    // From now on the clusters are read from the target; those who still read them from the source come first.
    this.#done.set(range.offset, range.bytes);
    this.copy.history?.overwritten.set(range.offset, range.bytes);
    await this.#frozen.waitOverlap(range);
  }

  async #copyOrBreak(op: string, range: ByteRange): Promise<void> {
    try {
      await this.#copyRange(range);
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      const cause = error as CopyError | BlockError;
      if (this.#breakGuestWrite) throw this.#failed(op, range, cause);
      if (this.#snapshotError !== undefined) return;
      this.#snapshotError = cause.code;
      this.onBroken?.();
    }
  }

  /** The clusters that a range touches, within the disk. */
  #clusters({ offset, bytes }: ByteRange): { offset: number; end: number } {
    const { clusterSize, length } = this.copy;
    const end = Math.min(alignUp(offset + bytes, clusterSize), length);
    return { offset: Math.min(alignDown(offset, clusterSize), length), end };
  }

  #failed(op: string, range: ByteRange, cause: CopyError | BlockError): BlockError {
    const { offset, bytes } = range;
    return new BlockError({ code: cause.code, op, node: this.#node.name, offset, bytes, cause });
  }

  async #copyRange(range: ByteRange): Promise<void> {
    if (this.#timeoutMs === 0) return this.copy.copyRange(range, { urgent: true });
    const pass = this.copy.start(range, { urgent: true });
    if (await this.#timedOut(pass)) throw new BlockError({ code: "ETIMEDOUT", op: "pwrite" });
    if (pass.error) throw pass.error;
    return undefined;
  }

  /** Waits for a pass; when the time is up first, the pass goes on and a drain waits for it. */
  #timedOut(pass: CopyPass): Promise<boolean> {
    return new Promise((resolve) => {
      const stopTimer = this.copy.clock.timer(this.#timeoutMs, () => {
        this.#abandoned += 1;
        pass.cancel();
        void pass.done.then(() => {
          this.#abandoned -= 1;
          assert(this.#abandoned >= 0, "more copies ended than were given up");
          this.#node.services.changes.wake();
        });
        resolve(true);
      });
      void pass.done.then(() => {
        stopTimer();
        resolve(false);
      });
    });
  }
}

/** The option `bitmap`: `{ node, name }`. */
function bitmapOption(context: OpenContext, spec: NodeSpec): DirtyBitmap | undefined {
  const value = spec["bitmap"] as { node?: unknown; name?: unknown } | undefined;
  if (value === undefined) return undefined;
  if (typeof value !== "object" || typeof value.node !== "string" || typeof value.name !== "string") {
    throw optionError("Invalid parameter type for 'bitmap', expected: BlockDirtyBitmap");
  }
  const bitmap = findDirtyBitmap(nodeOf(context.graph.lookup(value.node)), value.name);
  if (!bitmap) throw new CommandError(`Dirty bitmap '${value.name}' not found`, { code: "ENOENT" });
  bitmap.check({ readOnly: true });
  return bitmap;
}

function onError(spec: NodeSpec): boolean {
  const value = stringOption(spec, "on-cbw-error") ?? "break-guest-write";
  if (value !== "break-guest-write" && value !== "break-snapshot") {
    throw optionError(`Parameter 'on-cbw-error' does not accept value '${value}'`);
  }
  return value === "break-guest-write";
}

/** Makes the copy state over two edges, as the filter and jobs without one need it. */
function blockCopyOf(
  context: OpenContext,
  edges: { source: Child; target: Child; bitmap?: DirtyBitmap | undefined; minClusterBytes: number },
): BlockCopy {
  const { source, target, bitmap, minClusterBytes } = edges;
  if (bitmap && bitmap.bitmap.length !== source.length) {
    throw optionError("The bitmap does not fit the size of 'file'");
  }
  // A target that lies over the source (fleecing) must not see a cluster while it is being copied.
  const fleecing = chainContains(target.node, source.node);
  return new BlockCopy({
    source,
    target,
    arena: context.arena,
    kernels: context.kernels,
    clock: context.host.clock,
    unmap: true,
    skipZeroed: true,
    ...(fleecing ? { writeFlags: Req.serialising } : {}),
    ...(bitmap ? { bitmap: bitmap.bitmap } : {}),
    minClusterBytes,
  });
}

/** The option `min-cluster-size`: clusters that are copied are at least as large, bytes; 0: as the target's. */
function minCluster(spec: NodeSpec): number {
  const bytes = sizeOption(spec, "min-cluster-size") ?? 0;
  if (bytes !== 0 && !isPowerOfTwo(bytes))
    throw new CommandError("min-cluster-size needs to be a power of 2");
  if (bytes > limits.maxBitmapGranularity)
    throw new CommandError(`min-cluster-size too large: ${bytes} > ${limits.maxBitmapGranularity}`);
  return bytes;
}

/**
 * Options: `file`, `target`, `bitmap` ({ node, name }: what to copy; default everything), `on-cbw-error`
 * (break-guest-write, the default, or break-snapshot), `cbw-timeout` (seconds, default 0 = none), `min-cluster-size` (bytes, a power of two).
 */
export const copyBeforeWrite: DriverType = {
  name: "copy-before-write",
  staysAsOpened: true,
  kind: "filter",
  // It shows what the disk below it shows, whatever becomes of the copies.
  plainName: (_options, below) => below("file"),
  async open(context, spec) {
    const breakGuestWrite = onError(spec);
    const timeoutMs = (sizeOption(spec, "cbw-timeout") ?? 0) * 1000;
    const role = Role.filtered | Role.primary;
    const file = childOf(await context.openChild(childOption(spec, "file"), "file", role));
    const target = childOf(await context.openChild(childOption(spec, "target"), "target", Role.data));
    const bitmap = bitmapOption(context, spec);
    const copy = blockCopyOf(context, { source: file, target, bitmap, minClusterBytes: minCluster(spec) });
    return new CopyBeforeWrite({
      node: nodeOf(context.node),
      file,
      target,
      copy,
      breakGuestWrite,
      timeoutMs,
    });
  },
};
