/**
 * The filter that a mirror (or active commit) puts above its source: guest writes pass through it, so that the job sees
 * them, marks them dirty or, in write-blocking mode, sends them to the target as well. A failed target write never
 * fails the guest's. Source: behaviour of QEMU's mirror_top filter.
 */
import { type Answer, andThen } from "../../base/answer.ts";
import { type BlockNode, type Child, childOf, nodeOf } from "../../block/model/node.ts";
import {
  type BlockDriver,
  type DriverType,
  type NodeSpec,
  type OpenContext,
  Role,
} from "../../block/model/contract.ts";
import { Perm, filterPermissions } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";

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
