/**
 * The block graph: registered drivers, named nodes, their opening and closing, and every change of its shape.
 * One graph per engine. Source: behaviour of QEMU's block.c and blockdev.c.
 *
 * Invariants: node names are unique; a node lives while the monitor owns it, a parent holds it or it is referenced;
 * edges change only here and in edges.ts, with the nodes concerned drained.
 */
import { assert } from "../../base/assert.ts";
import { CommandError, blockError, withCause } from "../../base/errors.ts";
import { Secrets } from "../../crypto/secrets.ts";
import { EventBus } from "../../base/event-bus.ts";
import type { Host, HostChannel } from "../../base/host.ts";
import { closing, Lease } from "../../base/lease.ts";
import { limits } from "../../base/limits.ts";
import { Mutex, Wakeup } from "../../base/signals.ts";
import { Arena } from "../../kernels/arena.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import { closeNode, openBackingFromHeader, openNode } from "./open.ts";
import { drained } from "../model/drain.ts";
import { Perm } from "../model/permissions.ts";
import type { ChildRef, ChildRole, DriverType, NodeSpec, NodeView, Permissions } from "../model/contract.ts";
import * as edges from "./edges.ts";
import { type Gate, denyGate } from "../model/gate.ts";
import { type BlockNode, type Child, type ChildParent, type NodeUser, nodeOf } from "../model/node.ts";
import type { QmpEvent } from "../../wire/qapi/index.ts";
import { FilterLease, type RootLease, takeRoot } from "./edges.ts";
import type { GraphInit, NewImage, NodeHome } from "./home.ts";
import { switchReadOnly } from "./read-only.ts";

/** How long disks that a start does not concern are waited for, ms. */
const PATIENCE_MS = 1000;

/** All nodes of one engine. */
export class BlockGraph implements NodeHome {
  readonly host: Host;
  readonly kernels: Kernels;
  readonly arena: Arena;
  readonly gate: Gate;
  readonly strictErrorPolicy: boolean;
  readonly watchers: HostChannel | undefined;
  readonly events = new EventBus<QmpEvent>();
  /** Woken whenever something that a drain may wait for has changed. */
  readonly changes = new Wakeup();
  /** Named block backends (guest devices). */
  readonly backends = new Map<string, NodeUser>();
  /** All backends that hold a node, those without a name too (library handles). */
  readonly attachedBackends = new Set<NodeUser>();
  /** Passphrases and keys by id (`object-add qom-type=secret`). */
  readonly secrets = new Secrets();
  /** Told of an image that a command is about to make in a new file. */
  onNewImage: ((image: NewImage) => void) | undefined;
  /** The iothread that a user of nodes is bound to, where there are any. */
  iothreadOf: ((user: object) => string | undefined) | undefined;
  /** Told in words what no answer and no event says: why a job could not change the graph. */
  onTrouble: ((words: string) => void) | undefined;
  /** See GraphFlags. */
  isForGuests = false;
  isLikeQemu = false;
  onDifference: ((words: string) => void) | undefined;
  readonly limits = new Set<() => void>();
  readonly #drivers = new Map<string, DriverType>();
  readonly #nodes = new Map<string, BlockNode>();
  /** How often all were closed. */
  #closings = 0;
  readonly #removals = new Mutex();

  constructor(init: GraphInit) {
    this.host = init.host;
    this.watchers = init.host.diagnostics?.channel?.("blockwright:request");
    this.kernels = init.kernels;
    this.arena = init.arena ?? new Arena(init.kernels);
    this.gate = init.gate ?? denyGate;
    this.strictErrorPolicy = init.strictErrorPolicy ?? false;
  }

  // Drivers.

  /** Makes drivers known; one that is known already may come again. Throws CommandError where another has the name. */
  register(...types: readonly DriverType[]): void {
    for (const type of types) {
      const known = this.#drivers.get(type.name);
      if (known && known !== type) throw new CommandError(`Driver '${type.name}' is registered already`);
      this.#drivers.set(type.name, type);
    }
  }

  /** The driver of that name, or `Unknown driver 'x'`. */
  driver(name: string): DriverType {
    const type = this.#drivers.get(name);
    if (!type) throw new CommandError(`Unknown driver '${name}'`, { code: "ENOTSUP" });
    return type;
  }

  get drivers(): Iterable<DriverType> {
    return this.#drivers.values();
  }

  // Names.

  /** All nodes, newest first. One that is being opened is none yet, but has its name. */
  get nodes(): BlockNode[] {
    return [...this.#nodes.values()].filter((node) => node.wasOpened).reverse();
  }

  findNode(name: string): BlockNode | undefined {
    const node = this.#nodes.get(name);
    return node?.wasOpened ? node : undefined;
  }

  /** The node of that name. Throws `Failed to find node with node-name='x'`. */
  node(name: string): BlockNode {
    const node = this.findNode(name);
    if (!node) throw new CommandError(`Failed to find node with node-name='${name}'`, { code: "ENOENT" });
    return node;
  }

  /** A device's node, or, where there is no such device, the node of that name. Throws `Cannot find device='x' nor node-name='y'`. */
  nodeOrDevice({ device = "", node = "" }: { device?: string; node?: string }): BlockNode {
    const found = this.backends.get(device)?.root?.node ?? this.findNode(node);
    if (!found) throw noNode(device, node);
    return found;
  }

  /** A device's root node or a node by name. Throws `Cannot find device='x' nor node-name='x'`. */
  lookup(name: string): BlockNode {
    const node = this.backends.get(name)?.root?.node ?? this.findNode(name);
    if (!node) throw noNode(name, name);
    return node;
  }

  /** A node that only block backends use, no node and no job. Throws `Need a root block node`. */
  rootNode(name: string): BlockNode {
    const node = this.lookup(name);
    for (const edge of node.parents)
      if (edge.name !== "root") throw new CommandError("Need a root block node");
    return node;
  }

  /** Checks a wished name or makes one (`#block` and three digits or more). */
  claimName(name: string | undefined): string {
    if (name === undefined) {
      for (;;) {
        const made = `#block${String(this.host.random.below(1000)).padStart(3, "0")}${this.#nodes.size > 500 ? this.#nodes.size : ""}`;
        if (!this.#nodes.has(made)) return made;
      }
    }
    if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(name)) throw new CommandError(`Invalid node-name: '${name}'`);
    if (name.length > limits.maxNodeNameLength) throw new CommandError("Node name too long");
    if (this.backends.has(name))
      throw new CommandError(`node-name=${name} is conflicting with a device id`, { code: "EEXIST" });
    if (this.#nodes.has(name))
      throw new CommandError(`Duplicate nodes with node-name='${name}'`, { code: "EEXIST" });
    return name;
  }

  /** Registers a node under its name; open.ts calls it. */
  addNode(node: BlockNode): void {
    assert(!this.#nodes.has(node.name), `node '${node.name}' exists`);
    this.#nodes.set(node.name, node);
  }

  /** It is the newest in all lists. */
  addAgain(node: BlockNode): void {
    this.removeNode(node);
    this.addNode(node);
  }

  removeNode(node: BlockNode): void {
    if (this.#nodes.get(node.name) === node) this.#nodes.delete(node.name);
  }

  // Opening and closing.

  /**
   * Opens a node for a caller who holds a reference on it: release with `release`. `gate` stands in for the graph's;
   * `metadataOnly`: the disk's content will not be read, so encrypted images need no secret.
   */
  async open(spec: NodeSpec, options: { gate?: Gate; metadataOnly?: boolean } = {}): Promise<BlockNode> {
    const node = await this.#opened(spec, options);
    node.references += 1;
    return node;
  }

  /** blockdev-add: the monitor owns the node until `remove`. */
  async add(spec: NodeSpec): Promise<BlockNode> {
    if (spec["node-name"] === undefined)
      throw new CommandError("'node-name' must be specified for the root node");
    const node = await this.#opened(spec, {});
    node.monitorOwned = true;
    return node;
  }

  /** Opens a node; one that was still being opened when all were closed goes again. */
  async #opened(spec: NodeSpec, options: { gate?: Gate; metadataOnly?: boolean }): Promise<BlockNode> {
    const before = this.#closings;
    const node = await openNode(this, spec, options);
    if (this.#closings === before) return node;
    await this.releaseIfUnused(node);
    throw blockError("ESHUTDOWN", "open", "The engine was closed while the node was being opened");
  }

  /** blockdev-del, with QEMU's refusals. */
  async remove(name: string): Promise<void> {
    const node = this.node(name);
    // The edge of a backend, a guest's or a job's, is called root.
    if ([...node.parents].some((edge) => edge.name === "root"))
      throw new CommandError(`Node ${name} is in use`, { code: "EBUSY" });
    node.checkBlocked("drive-del");
    if (!node.monitorOwned) throw new CommandError(`Node ${name} is not owned by the monitor`);
    if (node.parents.size > 0 || node.references > 0)
      throw new CommandError(`Block device ${name} is in use`, { code: "EBUSY" });
    assert(!node.closed, "a node goes once");
    node.monitorOwned = false;
    await this.releaseIfUnused(node);
  }

  /** Takes a reference. */
  reference(node: BlockNode): void {
    node.references += 1;
  }

  /** A node by its name or a spec, with a reference on it. */
  async take(ref: ChildRef): Promise<BlockNode> {
    if (typeof ref !== "string") return this.open(ref);
    const node = this.lookup(ref);
    this.reference(node);
    return node;
  }

  /** References on all of the nodes while the lease lasts: none of them is closed before. */
  hold(...nodes: readonly BlockNode[]): Lease {
    for (const node of nodes) this.reference(node);
    const steps = nodes.map((node) => () => this.release(node));
    return new Lease(() => closing(() => Promise.resolve(), ...steps));
  }

  /** Takes the node for a parent that is no node; see image-root.ts. */
  root(node: BlockNode, as: Permissions & { parent?: ChildParent }): Promise<RootLease> {
    return takeRoot(this, node, as);
  }

  /** Runs `body` as a user of the node who is no node, with these permissions. */
  async withRoot<T>(
    node: NodeView,
    permissions: Permissions,
    body: (child: Child) => Promise<T>,
  ): Promise<T> {
    const root = await this.root(nodeOf(node), permissions);
    return closing(
      () => body(root.edge),
      () => root.end(),
    );
  }

  /** Gives a reference back; the last one closes the node and what only it used. Reports a failed flush. */
  async release(node: BlockNode): Promise<void> {
    assert(node.references > 0, `node '${node.name}' released too often`);
    node.references -= 1;
    await this.releaseIfUnused(node);
  }

  async releaseIfUnused(node: BlockNode): Promise<void> {
    if (node.closed || node.monitorOwned || node.references > 0 || node.parents.size > 0) return;
    node.closing ??= closeNode(this, node);
    await node.closing;
  }

  /** Closes everything: roots first. The first error is reported after all are closed. */
  async close(): Promise<void> {
    this.#closings += 1;
    const errors: unknown[] = [];
    for (const backend of [...this.attachedBackends])
      await backend.close().catch((error: unknown) => errors.push(error));
    for (const node of this.nodes) {
      node.monitorOwned = false;
      node.references = 0;
    }
    for (const node of this.nodes)
      await this.releaseIfUnused(node).catch((error: unknown) => errors.push(error));
    if (errors.length > 0) throw errors[0];
  }

  // Shape.

  /** Makes an edge from a parent that is no node (a job, a backend). */
  attach(
    parent: ChildParent,
    node: BlockNode,
    options: { name: string; role?: ChildRole } & Permissions,
  ): Promise<Child> {
    const { name, role = 0, perm, shared } = options;
    return edges.attachChild({ name, role, parent, node, perm, shared });
  }

  /** Removes an edge and closes the node if nobody else uses it. */
  async detach(child: Child): Promise<void> {
    const { node } = child;
    await edges.detachChild(child);
    await this.releaseIfUnused(node);
  }

  /** Changes what an edge of a job or backend takes. */
  setPermissions(child: Child, permissions: Permissions): Promise<void> {
    return edges.setChildPermissions(child, permissions);
  }

  /** Points one edge (a backing link) at another node; the old node is closed if unused. `null` removes the edge. */
  async setChild(child: Child, to: BlockNode | null): Promise<void> {
    const old = child.node;
    const parent = child.parent.parentNode;
    await drained(parent ? [parent, old] : [old], async () => {
      if (to) await edges.moveChild(child, to);
      else await edges.detachChild(child);
    });
    await this.releaseIfUnused(old);
  }

  /** Makes a node one more child of another. Drained. Throws CommandError when permissions conflict. */
  addChild(parent: BlockNode, node: BlockNode, edge: { name: string; role: ChildRole }): Promise<Child> {
    return drained([parent, node], () =>
      edges.attachChild({ ...edge, parent, node, perm: 0, shared: Perm.all }),
    );
  }

  /** Points edges of nodes at other nodes, all or none; an old node is closed if unused. */
  async moveChildren(moves: readonly { readonly edge: Child; readonly to: BlockNode }[]): Promise<void> {
    for (const { edge, to } of moves)
      if (edge.name === "backing") edge.parent.parentNode?.driver.headerBacking?.check?.(to);
    const before = moves.map(({ edge }) => ({ old: edge.node, parent: edge.parent.parentNode }));
    const nodes = before.flatMap(({ old, parent }) => (parent ? [old, parent] : [old]));
    await drained(nodes, () => edges.moveAll(moves));
    for (const { old, parent } of before) if (old.inheritsFrom === parent) old.inheritsFrom = undefined;
    for (const { old } of before) await this.releaseIfUnused(old);
  }

  /** Gives a node without one a backing file, or changes or removes the one it has. ESTALE: it was made over another version. */
  async setBacking(node: BlockNode, to: BlockNode | null, role: ChildRole): Promise<void> {
    if (to) node.driver.headerBacking?.check?.(to);
    if (to && edges.inheritsFrom(to, node)) to.inheritsFrom = node;
    if (node.backing) return this.setChild(node.backing, to);
    if (!to) return;
    await drained([node, to], async () => {
      await edges.attachChild({ name: "backing", role, parent: node, node: to, perm: 0, shared: 0 });
    });
  }

  /** All parents of `from` now use `to` (edges of what lies above `to` excepted). Drained. `from` is closed if unused. */
  async replace(from: BlockNode, to: BlockNode): Promise<void> {
    await drained([from, to], () => edges.replaceParents(from, to));
    await this.releaseIfUnused(from);
  }

  /**
   * Opens a filter whose child option names `below`, and puts it between `below` and its parents, where it stays as long as the
   * lease lasts.
   */
  async insertFilter(
    spec: NodeSpec,
    below: BlockNode,
    options: { implicit?: boolean } = {},
  ): Promise<FilterLease> {
    return drained([below], async () => {
      const filter = await this.open(spec);
      filter.implicit = options.implicit ?? false;
      try {
        // What it lies over by now: meanwhile another node may have taken the place of `below`.
        await edges.replaceParents(filter.filtered?.node ?? below, filter);
      } catch (error) {
        await this.release(filter).catch((later: unknown) => withCause(error, later));
        throw error;
      }
      return new FilterLease(filter, {
        remove: () => this.#removals.run(() => this.#removeFilter(filter)),
        release: () => this.release(filter),
      });
    });
  }

  /**
   * Takes a filter out: its parents use its child again. One at a time: each holds the node below, which may be the filter that
   * another one takes out, and that is to be closed when it returns.
   */
  async #removeFilter(filter: BlockNode): Promise<void> {
    const below = filter.filtered?.node;
    assert(below, `'${filter.name}' is no filter with a child`);
    const held = this.hold(below);
    await closing(
      // Again what it lies over by now: the drain may have waited for a change.
      () => drained([filter, below], () => edges.replaceParents(filter, filter.filtered?.node ?? below)),
      () => this.release(filter),
      () => held.end(),
    );
  }

  /** Begins and ends a drained section of every node. */
  async drainAll(): Promise<void> {
    await drained(this.nodes, () => undefined);
  }

  /** The same, but what is still busy after PATIENCE_MS is not waited for: its disk may never answer. */
  async drainAllPatiently(): Promise<void> {
    const { clock } = this.host;
    const dueMs = clock.nowMs() + PATIENCE_MS;
    const cancel = clock.timer(PATIENCE_MS, () => this.changes.wake());
    try {
      await drained(this.nodes, () => undefined, { enough: () => clock.nowMs() >= dueMs });
    } finally {
      cancel();
    }
  }

  /** Opens the backing file that the node's header names, through the gate (drive-mirror into an existing image). */
  async openBackingOf(node: BlockNode): Promise<void> {
    await drained([node], () => openBackingFromHeader(this, node));
    node.childrenChanged();
  }

  /** Switches a node and the storage that it opened itself between read-only and writable. */
  async setReadOnly(node: BlockNode, readOnly: boolean): Promise<void> {
    node.switches += 1;
    try {
      await node.changes.run(async () => {
        if (node.readOnly !== readOnly) await drained([node], () => switchReadOnly(node, readOnly));
      });
    } finally {
      node.switches -= 1;
    }
  }

  /** As setReadOnly(), as long as the lease lasts; at its end the node is as it was. */
  async switched(node: BlockNode, readOnly: boolean): Promise<Lease> {
    // Somebody may be switching it just now. What amends it keeps nobody waiting: its disk may never answer.
    if (node.readOnly === readOnly && node.switches === 0) return new Lease();
    await this.setReadOnly(node, readOnly);
    return new Lease(() => this.setReadOnly(node, !readOnly));
  }

  /** Makes a read-only node writable as long as the lease lasts. */
  writable(node: BlockNode): Promise<Lease> {
    return this.switched(node, false);
  }
}

function noNode(device: string, node: string): CommandError {
  const message = `Cannot find device='${device}' nor node-name='${node}'`;
  return new CommandError(message, { code: "ENOENT", details: { missingNode: node || device } });
}
