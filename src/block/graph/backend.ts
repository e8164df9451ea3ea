/**
 * A block backend: how a guest device, an export or a library caller uses a node. It checks the range, waits while the
 * node is drained, and counts what is in flight. Source: QEMU's BlockBackend.
 */
import { BlockError, blockError } from "../../base/errors.ts";
import type { ByteRange } from "../../base/ranges.ts";
import type { Child, ChildParent } from "../model/node.ts";
import { type RequestFlags, Req, Role } from "../model/contract.ts";
import type { BlockGraph } from "./graph.ts";
import type { BlockNode } from "../model/node.ts";
import { Perm } from "../model/permissions.ts";
import type { Permissions } from "../model/contract.ts";

/** Permissions of a user who reads and writes, and lets others read. */
export const guestPermissions: Permissions = {
  perm: Perm.consistentRead | Perm.write,
  shared: Perm.consistentRead | Perm.writeUnchanged,
};

/** Permissions of a user who only reads and minds nobody. */
export const readerPermissions: Permissions = { perm: Perm.consistentRead, shared: Perm.all };

/** One user of a node. */
export class BlockBackend implements ChildParent {
  readonly graph: BlockGraph;
  /** Empty: anonymous. */
  readonly name: string;
  /** Without write-back each write is flushed before it completes. */
  writeCache = true;
  root: Child | undefined;
  /** While it answers true, requests wait as during a drain (the machine is stopped). Wake `graph.changes` afterwards. */
  held: (() => boolean) | undefined;
  #quiesced = false;
  #inFlight = 0;

  constructor(graph: BlockGraph, name = "") {
    this.graph = graph;
    this.name = name;
    if (name) graph.backends.set(name, this);
  }

  /** Takes the node. Throws EPERM in QEMU's words when others don't allow it. */
  async attach(node: BlockNode, permissions: Permissions): Promise<void> {
    this.root = await this.graph.attach(this, node, {
      name: "root",
      role: Role.filtered | Role.primary,
      ...permissions,
    });
    this.graph.attachedBackends.add(this);
  }

  /** Waits for its requests and lets the node go, which closes if nobody else uses it. */
  async close(): Promise<void> {
    if (this.name) this.graph.backends.delete(this.name);
    this.graph.attachedBackends.delete(this);
    await this.graph.changes.until(() => this.#inFlight === 0);
    const { root } = this;
    this.root = undefined;
    if (root) await this.graph.detach(root);
  }

  describe(): string {
    return this.name ? `block device '${this.name}'` : "an unnamed block device";
  }

  drainedBegin(): void {
    this.#quiesced = true;
  }

  drainedEnd(): void {
    this.#quiesced = false;
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

  pread(offset: number, buffer: Uint8Array, flags: RequestFlags = 0): Promise<void> {
    return this.#request({ op: "pread", offset, bytes: buffer.byteLength }, (root) =>
      root.pread(offset, buffer, flags),
    );
  }

  /** As pread(), if it can be done before this returns; false: nothing has happened, use pread(). */
  preadNow(offset: number, buffer: Uint8Array): boolean {
    if (this.#quiesced || this.held?.() || !this.root) return false;
    return this.root.preadNow(offset, buffer);
  }

  pwrite(offset: number, buffer: Uint8Array, flags: RequestFlags = 0): Promise<void> {
    return this.#request({ op: "pwrite", offset, bytes: buffer.byteLength }, (root) =>
      root.pwrite(offset, buffer, this.#withCacheMode(flags)),
    );
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags = 0): Promise<void> {
    return this.#request({ op: "pwriteZeroes", offset, bytes }, (root) =>
      root.pwriteZeroes(offset, bytes, this.#withCacheMode(flags)),
    );
  }

  pdiscard(offset: number, bytes: number): Promise<void> {
    return this.#request({ op: "pdiscard", offset, bytes }, (root) => root.pdiscard(offset, bytes));
  }

  flush(): Promise<void> {
    return this.#request(undefined, (root) => root.flush());
  }

  #withCacheMode(flags: RequestFlags): RequestFlags {
    return this.writeCache ? flags : flags | Req.fua;
  }

  #node(): BlockNode {
    if (!this.root) throw blockError("ENOMEDIUM", "backend");
    return this.root.node;
  }

  /** Throws EIO unless the range lies on the disk, ENOMEDIUM when nothing is attached. */
  checkRange(op: string, { offset, bytes }: ByteRange): void {
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

  async #request(
    range: (ByteRange & { op: string }) | undefined,
    body: (root: Child) => Promise<void>,
  ): Promise<void> {
    if (range) this.checkRange(range.op, range);
    while (this.#quiesced || this.held?.()) await this.graph.changes.wait();
    const { root } = this;
    if (!root) throw blockError("ENOMEDIUM", "backend");
    this.#inFlight += 1;
    try {
      await body(root);
    } finally {
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.graph.changes.wake();
    }
  }
}
