/**
 * What is held of the graph for a while: a filter between a node and its parents (made by BlockGraph.insertFilter), and a node as
 * formats use it that are made or checked, by an edge of an unnamed device.
 *
 * Invariant: a lease holds its node by a reference or an edge, so the node lives until the lease ends, whatever the graph becomes.
 */
import { assert } from "../../base/assert.ts";
import { Lease } from "../../base/lease.ts";
import type { BlockDriver, Permissions } from "../model/contract.ts";
import type { BlockNode, Child, ChildParent } from "../model/node.ts";
import type { NodeHome } from "./home.ts";

/** A filter that lies over a node until end(). */
export class FilterLease extends Lease {
  readonly node: BlockNode;
  readonly #release: () => Promise<void>;

  constructor(node: BlockNode, ways: { remove: () => Promise<void>; release: () => Promise<void> }) {
    super(ways.remove);
    assert(node.isFilter && node.references > 0, `'${node.name}' is no filter that somebody holds`);
    this.node = node;
    this.#release = ways.release;
  }

  /** The filter's driver, which must be of that class. */
  driver<D extends BlockDriver>(type: abstract new (...args: never[]) => D): D {
    const { driver } = this.node;
    assert(driver instanceof type, `'${this.node.name}' is another filter`);
    return driver;
  }

  /** The end of a filter that has been taken out of the graph by other means: only the reference goes. */
  async left(): Promise<void> {
    assert(this.isHeld, `filter '${this.node.name}' was let go twice`);
    this.keep();
    await this.#release();
  }
}

/** A parent that has nothing to stop while its node is drained: it waits for each of its requests itself. */
export const unnamedDevice: ChildParent = {
  describe: () => "an unnamed block device",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};

/** The edge of an unnamed device to a node; it is removed at the end, and the node closed if nobody else uses it. */
export class RootLease extends Lease {
  readonly edge: Child;

  constructor(graph: NodeHome, edge: Child) {
    super(() => graph.detach(edge));
    this.edge = edge;
  }
}

/**
 * Takes the node for a parent that is no node: an unnamed device, unless another is given. EPERM (QEMU's words) where others
 * don't allow it.
 */
export async function takeRoot(
  graph: NodeHome,
  node: BlockNode,
  { parent = unnamedDevice, ...permissions }: Permissions & { parent?: ChildParent },
): Promise<RootLease> {
  return new RootLease(graph, await graph.attach(parent, node, { name: "root", ...permissions }));
}
