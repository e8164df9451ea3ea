/**
 * A block backend: how a guest device, an export or a library caller uses a node. It waits while the node is drained,
 * checks the range, and counts what is in flight. Source: QEMU's BlockBackend.
 */
import { type Answer, isPromise, rejected } from "../../base/answer.ts";
import { assert } from "../../base/assert.ts";
import { BlockError, blockError } from "../../base/errors.ts";
import type { Child, ChildParent } from "../model/node.ts";
import { type RequestFlags, Req, Role } from "../model/contract.ts";
import type { BlockGraph } from "./graph.ts";
import type { BlockNode } from "../model/node.ts";
import type { ThrottleMember } from "../throttle/throttle.ts";
import { blockStatusAbove, type ChainStatus } from "../io/status.ts";
import { Perm } from "../model/permissions.ts";
import type { Permissions } from "../model/contract.ts";

/** Permissions of a user who reads and writes, and lets others read. */
export const guestPermissions: Permissions = {
  perm: Perm.consistentRead | Perm.write,
  shared: Perm.consistentRead | Perm.writeUnchanged,
};

/** Permissions of a user who reads what nobody may change meanwhile. */
export const stillPermissions: Permissions = {
  perm: Perm.consistentRead,
  shared: Perm.consistentRead | Perm.writeUnchanged,
};

/** Permissions of a user who only reads and minds nobody. */
export const readerPermissions: Permissions = { perm: Perm.consistentRead, shared: Perm.all };

/**
 * One user of a node. Its requests answer at once where nothing has to be awaited; while the node is drained they wait, and
 * what is wrong with them is told afterwards. They fail by rejecting.
 */
export class BlockBackend implements ChildParent {
  readonly graph: BlockGraph;
  /** Empty: anonymous. */
  readonly name: string;
  /** Without write-back each write is flushed before it completes. */
  writeCache = true;
  root: Child | undefined;
  /** While it answers true, requests wait as during a drain (the machine is stopped). Wake `graph.changes` afterwards. */
  held: (() => boolean) | undefined;
  #throttle: ThrottleMember | undefined;
  #quiesced = false;
  #inFlight = 0;
  #attaching = false;

  constructor(graph: BlockGraph, name = "") {
    this.graph = graph;
    this.name = name;
    if (name) graph.backends.set(name, this);
  }

  /** Takes the node. Throws EPERM in QEMU's words when others don't allow it. */
  async attach(node: BlockNode, permissions: Permissions): Promise<void> {
    assert(!this.root && !this.#attaching, "a backend holds one node");
    this.#attaching = true;
    try {
      this.root = await this.#take(node, permissions);
    } finally {
      this.#attaching = false;
    }
    this.graph.attachedBackends.add(this);
  }

  #take(node: BlockNode, permissions: Permissions): Promise<Child> {
    return this.graph.attach(this, node, {
      name: "root",
      role: Role.filtered | Role.primary,
      ...permissions,
    });
  }

  /** Waits for its requests and lets the node go, which closes if nobody else uses it. */
  async close(): Promise<void> {
    if (this.name) this.graph.backends.delete(this.name);
    await this.detach();
  }

  /** Waits for its requests and lets the node go; another one may be attached afterwards (a medium is changed). */
  async detach(): Promise<void> {
    this.graph.attachedBackends.delete(this);
    await this.graph.changes.until(() => this.#inFlight === 0);
    const { root } = this;
    this.root = undefined;
    if (root) await this.graph.detach(root);
  }

  /** What holds its reads and writes back, if anything. While the node is drained nothing is held back. */
  get throttle(): ThrottleMember | undefined {
    return this.#throttle;
  }

  set throttle(member: ThrottleMember | undefined) {
    if (this.#quiesced) member?.disable();
    this.#throttle = member;
  }

  get deviceName(): string {
    return this.name;
  }

  describe(): string {
    return this.name ? `block device '${this.name}'` : "an unnamed block device";
  }

  drainedBegin(): void {
    this.#quiesced = true;
    this.#throttle?.disable();
  }

  drainedEnd(): void {
    assert(this.#quiesced, "a drain ends once");
    this.#quiesced = false;
    this.#throttle?.enable();
    this.graph.changes.wake();
  }

  drainedBusy(): boolean {
    return this.#inFlight > 0;
  }

  /** Length of the disk, bytes. ENOMEDIUM when nothing is attached. */
  get length(): number {
    return this.#node().length;
  }

  get node(): BlockNode | undefined {
    return this.root?.node;
  }

  pread(offset: number, buffer: Uint8Array, flags: RequestFlags = 0): Answer<void> {
    // No closure is made for what is over at once.
    if (this.mustWait()) return this.#readLater(offset, buffer, flags);
    const refusal = this.#refusal("pread", offset, buffer.byteLength);
    if (refusal) return refusal;
    const turn = this.#throttle?.intercept("read", buffer.byteLength);
    if (turn) return this.#countedUntil(turn.then(() => this.root!.pread(offset, buffer, flags)));
    return this.counted(this.root!.pread(offset, buffer, flags));
  }

  #readLater(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    return this.#later(() => this.pread(offset, buffer, flags));
  }

  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags = 0): Answer<void> {
    if (this.mustWait()) return this.#later(() => this.pwrite(offset, buffer, flags));
    const refusal = this.#refusal("pwrite", offset, buffer.byteLength);
    return (
      refusal ??
      this.#write(buffer.byteLength, () => this.root!.pwrite(offset, buffer, this.#withCacheMode(flags)))
    );
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags = 0): Answer<void> {
    if (this.mustWait()) return this.#later(() => this.pwriteZeroes(offset, bytes, flags));
    const refusal = this.#refusal("pwriteZeroes", offset, bytes);
    return (
      refusal ?? this.#write(bytes, () => this.root!.pwriteZeroes(offset, bytes, this.#withCacheMode(flags)))
    );
  }

  pdiscard(offset: number, bytes: number): Answer<void> {
    if (this.mustWait()) return this.#later(() => this.pdiscard(offset, bytes));
    return this.#refusal("pdiscard", offset, bytes) ?? this.counted(this.root!.pdiscard(offset, bytes));
  }

  flush(): Answer<void> {
    if (this.mustWait()) return this.#later(() => this.flush());
    return this.#refusal("flush", 0, 0) ?? this.counted(this.root!.flush());
  }

  /** A write, when its turn has come. */
  #write(bytes: number, request: () => Answer<void>): Answer<void> {
    const turn = this.#throttle?.intercept("write", bytes);
    return turn ? this.#countedUntil(turn.then(request)) : this.counted(request());
  }

  /** What lies at `offset` in the chain, and which layer decides; see io/status.ts. */
  status(offset: number, bytes: number): Answer<ChainStatus> {
    if (this.mustWait()) return this.#later(() => this.status(offset, bytes));
    return (
      this.#refusal("blockStatus", offset, bytes) ??
      this.counted(blockStatusAbove(this.#node(), offset, bytes))
    );
  }

  #withCacheMode(flags: RequestFlags): RequestFlags {
    return this.writeCache ? flags : flags | Req.fua;
  }

  #node(): BlockNode {
    if (!this.root) throw blockError("ENOMEDIUM", "backend");
    return this.root.node;
  }

  /** Throws EIO unless the range lies on the disk, ENOMEDIUM when nothing is attached. */
  checkRange(op: string, offset: number, bytes: number): void {
    const { length, name } = this.#node();
    if (offset >= 0 && bytes >= 0 && offset + bytes <= length) return;
    throw new BlockError({
      code: "EIO",
      op,
      node: name,
      offset,
      bytes,
      message: `${op}: ${offset}+${bytes} is outside the disk of ${length} bytes`,
    });
  }

  /** Whether requests wait: the node is drained, or held. */
  mustWait(): boolean {
    return this.#quiesced || (this.held?.() ?? false);
  }

  /** A request that waits for the end of a drain. Its range is checked then: the disk may have been resized meanwhile. */
  async #later<T>(request: () => Answer<T>): Promise<T> {
    while (this.mustWait()) await this.graph.changes.wait();
    return request();
  }

  #refusal(op: string, offset: number, bytes: number): Promise<never> | undefined {
    try {
      this.checkRange(op, offset, bytes);
      return undefined;
    } catch (error) {
      return rejected(error);
    }
  }

  /** Keeps a drain waiting until the request is over. */
  counted<T>(request: Answer<T>): Answer<T> {
    return isPromise(request) ? this.#countedUntil(request) : request;
  }

  async #countedUntil<T>(request: Promise<T>): Promise<T> {
    this.#inFlight += 1;
    try {
      return await request;
    } finally {
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.graph.changes.wake();
    }
  }
}
