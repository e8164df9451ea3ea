/**
 * A filter in place: a node that a job or the library has put between a node and its parents, for a while. Made by
 * BlockGraph.insertFilter.
 *
 * Invariant: the lease holds a reference on the filter, so the node lives until the lease ends, whatever the graph becomes.
 */
import { assert } from "../../base/assert.ts";
import { Lease } from "../../base/lease.ts";
import type { BlockDriver } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";

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
