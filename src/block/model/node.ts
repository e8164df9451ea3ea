/**
 * A block node: one driver with its options, its children and its parents. The verbs live in io.ts, zeroes.ts,
 * status.ts and drain.ts; the graph (graph.ts) alone creates nodes and moves edges. Source: QEMU's BlockDriverState.
 *
 * Invariants: `length` is what the driver says, extended by writes beyond the end of a growable protocol; a node with
 * `quiesceCounter > 0` gets no new requests from backends and jobs.
 *
 * An Account counts requests: of a node, all that its users ask of it; of a guest's device, what its guest does. Source:
 * QEMU's block accounting; the counters of nodes are ours. Counters only grow; a request counts once, when it is over, either as an operation or as a failed one.
 */
import { assert, AssertionError } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import type { HostChannel } from "../../base/host.ts";
import type { DirtyBitmap } from "./dirty-bitmap.ts";
import * as drain from "./drain.ts";
import {
  type BlockDriver,
  type BlockLimits,
  type DriverType,
  type Edge,
  type NodeOptions,
  type NodeServices,
  type NodeSpec,
  type NodeView,
  type Permissions,
  Role,
  defaultLimits,
  type WriteAhead,
} from "./contract.ts";
import type { Gate } from "./gate.ts";
import { Perm } from "./permissions.ts";
import { RequestTracker } from "../../base/ranges.ts";
import { Mutex } from "../../base/signals.ts";
import type { LatencyHistogram } from "./latency.ts";

/** The kinds that are told apart. Writing zeroes is a write. */
export type AccountedKind = "read" | "write" | "flush" | "unmap";

/** The kinds, in the order of QEMU's statistics. */
export const accountedKinds: readonly AccountedKind[] = ["read", "write", "flush", "unmap"];

/** The counters of one kind. */
export class OperationAccount {
  operations = 0;
  bytes = 0;
  failed = 0;
  /** Refused before they were requests: outside of the disk. */
  invalid = 0;
  /** Time that they took together, ms. Of a node: from when they had to be waited for. */
  timeMs = 0;
}

/** The counters of a node or a device. */
export class Account implements Readonly<Record<AccountedKind, OperationAccount>> {
  readonly read = new OperationAccount();
  readonly write = new OperationAccount();
  readonly flush = new OperationAccount();
  readonly unmap = new OperationAccount();
  /** End of the last request, on the Host's monotonic clock, ms. Of devices only. */
  lastAccessMs: number | undefined;
  /** Of those kinds that somebody asked to look at. */
  readonly latency: Partial<Record<AccountedKind, LatencyHistogram>> = {};

  /** A request has ended well. */
  done(kind: AccountedKind, bytes: number, tookMs = 0): void {
    const account = this[kind];
    account.operations += 1;
    account.bytes += bytes;
    account.timeMs += tookMs;
    this.latency[kind]?.add(tookMs * 1e6);
  }

  /** A request has failed. */
  failed(kind: AccountedKind, tookMs = 0): void {
    const account = this[kind];
    account.failed += 1;
    account.timeMs += tookMs;
    this.latency[kind]?.add(tookMs * 1e6);
  }
}

/** A driver whose discards are told apart in its statistics, as QEMU's drivers of files have them. */
export interface CountsDiscards {
  readonly countsDiscards: true;
}

/** Whether a driver is one. */
export function countsDiscards(driver: BlockDriver): boolean {
  return "countsDiscards" in driver;
}

/** Every operation that a job can block on the nodes it uses (QEMU's BlockOpType). */
export const blockOperations = [
  "backup-source",
  "backup-target",
  "change",
  "commit-source",
  "commit-target",
  "dataplane",
  "drive-del",
  "eject",
  "external-snapshot",
  "internal-snapshot",
  "internal-snapshot-delete",
  "mirror-source",
  "mirror-target",
  "resize",
  "stream",
  "replace",
] as const;

/** One of them. */
export type BlockOperation = (typeof blockOperations)[number];

/** What an edge tells its parent. */
export interface ChildParent {
  /** For error messages: `node 'x'`, `block job 'x'`, `block device 'x'`. */
  describe(): string;
  /** The node, where the parent is one. */
  readonly parentNode?: BlockNode;
  /** The device, where the parent is one that has a name. */
  readonly deviceName?: string;
  /** The child begins to be drained: issue no new requests until the end. */
  drainedBegin(child: Child): void;
  drainedEnd(child: Child): void;
  /** True while requests of the parent are still under way. */
  drainedBusy(child: Child): boolean;
  /** The child's length changed. */
  resized?(child: Child): void;
  /** The edge now points at another node. */
  replaced?(child: Child): void;
  /** The edge stays where it is when its node is replaced in the graph. */
  readonly stayAtNode?: boolean;
}

/** A block backend as the graph sees it (graph/backend.ts). */
export interface NodeUser {
  /** Empty: anonymous. */
  readonly name: string;
  readonly root: Child | undefined;
  close(): Promise<void>;
}

/** An edge as the graph sees it: who holds it and where it leads. Made and moved by graph/edges.ts only. */
export interface Child extends Edge {
  readonly parent: ChildParent;
  node: BlockNode;
  perm: number;
  shared: number;
  /** A frozen edge may not be moved or removed (backing links below a job). */
  frozen: boolean;
  /** Whether drainedBegin was passed to the parent for the node's current drain. */
  quiescedParent: boolean;
}

/** The node that a driver was shown. */
export function nodeOf(view: NodeView): BlockNode {
  assert(view instanceof BlockNode, `'${view.name}' is no node`);
  return view;
}

/** The edge that a driver was given: filters that walk along the graph see more of it. */
export function childOf(edge: Edge): Child {
  nodeOf(edge.node);
  return edge as Child;
}

/** A node of the block graph. */
export class BlockNode implements ChildParent, NodeView {
  readonly services: NodeServices;
  readonly name: string;
  readonly type: DriverType;
  /** As it was opened; what the driver's own options are by now. */
  spec: NodeSpec;
  options: NodeOptions;
  /** Length of the virtual disk, bytes. */
  length = 0;
  limits: BlockLimits = { ...defaultLimits };
  readonly children: Child[] = [];
  readonly parents = new Set<Child>();
  readonly dirtyBitmaps: DirtyBitmap[] = [];
  readonly requests = new RequestTracker();
  /** What its changes wait for. */
  writeAhead: WriteAhead | undefined;
  /** Requests under way. */
  inFlight = 0;
  quiesceCounter = 0;
  /** What its users have asked of it. */
  readonly account = new Account();
  /** Told of its requests while somebody listens. */
  readonly watchers: HostChannel | undefined;
  /** End of the highest write so far, bytes. */
  highestWrite = 0;
  /** Grows with each completed write; flush() compares. */
  writeGeneration = 0;
  /** Told of each change, and after each drain, in which it may have come to hold something else. */
  changeListeners: Set<() => void> | undefined;
  flushedGeneration = 0;
  activeFlush: Promise<void> | undefined;
  /** Owned by the monitor or the library's caller (blockdev-add), beside its parents. */
  monitorOwned = false;
  /** Created by the layer itself (a job's filter, an inline child). */
  implicit = false;
  /** The node whose inline option opened this one. */
  inheritsFrom: BlockNode | undefined;
  /** Asked for the files that this node's image names. */
  gate: Gate;
  /** Opened to be described: its disk may be unreadable, since encrypted images need no secret then. */
  metadataOnly = false;
  /** The backing file that was opened since the header names it, by that name and by its own. */
  openedByHeader: { readonly header: string; readonly name: string } | undefined;
  references = 0;
  closed = false;
  /** Its closing, once that has begun: nobody may take the node up again. */
  closing: Promise<void> | undefined;
  /** Changes of what it is (read-only or not, options of its image), one at a time. */
  readonly changes = new Mutex();
  /** Changes to read-only or writable that are under way, or wait for their turn. */
  switches = 0;
  /** BLOCK_WRITE_THRESHOLD, bytes; 0 = off. */
  writeThreshold = 0;
  readonly #blockers = new Map<BlockOperation, string[]>();
  #driver: BlockDriver | undefined;
  #primary: Child | undefined;
  #backing: Child | undefined;

  constructor(init: {
    services: NodeServices;
    watchers?: HostChannel | undefined;
    gate: Gate;
    name: string;
    type: DriverType;
    spec: NodeSpec;
    options: NodeOptions;
  }) {
    this.services = init.services;
    this.watchers = init.watchers;
    this.gate = init.gate;
    this.name = init.name;
    this.type = init.type;
    this.spec = init.spec;
    this.options = init.options;
  }

  get driver(): BlockDriver {
    // Every request comes this way: no words are made for a node that is open.
    if (!this.#driver) throw new AssertionError(`node '${this.name}' is not open`);
    return this.#driver;
  }

  /** It has its driver, open or closed by now. */
  get wasOpened(): boolean {
    return this.#driver !== undefined;
  }

  get isOpen(): boolean {
    return this.#driver !== undefined && !this.closed;
  }

  /** Installs the opened driver; graph.ts calls it once. */
  setDriver(driver: BlockDriver): void {
    assert(!this.#driver, "a node is opened once");
    this.#driver = driver;
    this.refreshLimits();
    this.length = driver.length();
  }

  get readOnly(): boolean {
    return this.options.readOnly;
  }

  get isFilter(): boolean {
    return this.type.kind === "filter";
  }

  child(name: string): Child | undefined {
    return this.children.find((child) => child.name === name);
  }

  /** The child in whose storage a format lies. */
  get file(): Child | undefined {
    return this.#primary?.name === "file" ? this.#primary : this.child("file");
  }

  /** The backing file. */
  get backing(): Child | undefined {
    return this.#backing;
  }

  get primary(): Child | undefined {
    return this.#primary;
  }

  /** The child that a filter presents. */
  get filtered(): Child | undefined {
    return this.isFilter ? this.children.find((child) => (child.role & Role.filtered) !== 0) : undefined;
  }

  /** Called by graph.ts after children came or went. */
  childrenChanged(): void {
    this.#primary = this.children.find((child) => (child.role & Role.primary) !== 0);
    this.#backing = this.children.find((child) => child.name === "backing" && (child.role & Role.cow) !== 0);
    if (this.#driver) {
      this.refreshLimits();
      this.#setLength(this.#driver.length());
    }
  }

  refreshLimits(): void {
    const limits = { ...defaultLimits };
    const below = this.primary ?? this.filtered;
    if (below) {
      limits.requestAlignment = this.isFilter ? below.node.limits.requestAlignment : 1;
      limits.optTransfer = below.node.limits.optTransfer;
      limits.maxTransfer = below.node.limits.maxTransfer;
    }
    Object.assign(limits, this.driver.limits?.());
    this.limits = limits;
  }

  /** All bitmaps and parents learn of it; then throws what the first bitmap that could not follow threw. */
  #setLength(length: number): void {
    if (length === this.length) return;
    this.length = length;
    const failures: unknown[] = [];
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch (error) {
        failures.push(error);
      }
    };
    for (const bitmap of this.dirtyBitmaps) attempt(() => bitmap.truncate(length));
    for (const parent of this.parents) attempt(() => parent.parent.resized?.(parent));
    if (failures.length > 0) throw failures[0];
  }

  /** Takes the driver's length over and tells the parents. */
  updateLength(): void {
    this.#setLength(this.driver.length());
  }

  /** A write is about to end at `end`: tells of it where that is beyond the threshold that was set, once. */
  noteThreshold(end: number): void {
    const threshold = this.writeThreshold;
    if (threshold === 0 || end <= threshold) return;
    this.writeThreshold = 0;
    this.services.events.emit("BLOCK_WRITE_THRESHOLD", {
      "node-name": this.name,
      "amount-exceeded": end - threshold,
      "write-threshold": threshold,
    });
  }

  /** A write went beyond the end. */
  grew(length: number): void {
    this.#setLength(Math.max(this.length, length, 0));
  }

  /** Asks the outside for the length (another process may have grown the file). */
  async refreshLength(): Promise<number> {
    const { sharedStorage } = this.driver;
    if (sharedStorage) await sharedStorage.refreshLength();
    else await (this.primary ?? this.filtered)?.node.refreshLength();
    this.updateLength();
    return this.length;
  }

  /** Fires a blkdebug event of the format above; the promise, if any, suspends its request. */
  debugEvent(event: string): Promise<void> | undefined {
    return this.driver.debugEvent?.(event);
  }

  // Cumulative permissions of all parents.
  cumulativePermissions(): Permissions {
    let perm = 0;
    let shared: number = Perm.all;
    for (const parent of this.parents) {
      perm |= parent.perm;
      shared &= parent.shared;
    }
    return { perm, shared };
  }

  // ChildParent: what the children of this node tell it.
  describe(): string {
    return `node '${this.name}'`;
  }

  get parentNode(): BlockNode {
    return this;
  }

  drainedBegin(): void {
    drain.quiesce(this);
  }

  drainedEnd(): void {
    drain.unquiesce(this);
  }

  drainedBusy(): boolean {
    return drain.isBusy(this);
  }

  resized(): void {
    if (this.#driver && !this.closed) this.updateLength();
  }

  // Operation blockers.

  /** Blocks `operations` (default: all) with QEMU's reason. */
  block(reason: string, operations: readonly BlockOperation[] = blockOperations): void {
    for (const operation of operations) {
      const reasons = this.#blockers.get(operation) ?? [];
      reasons.push(reason);
      this.#blockers.set(operation, reasons);
    }
  }

  /** Takes one blocker of this reason back. */
  unblock(reason: string, operations: readonly BlockOperation[] = blockOperations): void {
    for (const operation of operations) {
      const reasons = this.#blockers.get(operation) ?? [];
      const at = reasons.indexOf(reason);
      assert(at >= 0, "a block is taken back once");
      reasons.splice(at, 1);
    }
  }

  /** The newest reason that blocks the operation. */
  blockedBy(operation: BlockOperation): string | undefined {
    return this.#blockers.get(operation)?.at(-1);
  }

  /** Throws `Node 'x' is busy: reason` if the operation is blocked. */
  checkBlocked(operation: BlockOperation): void {
    const reason = this.blockedBy(operation);
    if (reason) throw new CommandError(`Node '${this.deviceOrName}' is busy: ${reason}`, { code: "EBUSY" });
  }

  /** What messages call it: as the device right over it, if that has a name. */
  get deviceOrName(): string {
    for (const { parent } of this.parents) if (parent.deviceName) return parent.deviceName;
    return this.name;
  }
}
