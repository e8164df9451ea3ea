/**
 * Watches what a node holds for somebody who keeps a part of it: a number in shared memory grows with each change that is not
 * his own, before whoever made it is told that it is done.
 *
 * Invariants: whoever follows before he reads misses no change: writes to the node and through filters above it, resizes, and
 * whatever happens to the graph or the image in a drained section. One request of his own at a time.
 */
import type { Node } from "../api/node.ts";
import type { BlockNode } from "../block/model/node.ts";

/** The node with the filters above it. */
function layersOf(node: Node): BlockNode[] {
  const all: BlockNode[] = [];
  for (let at: BlockNode | undefined = node.blockNode; at; at = at.filtered?.node) all.push(at);
  return all;
}

/** One watch, as long as the node lives. */
export class ChangeWatch {
  readonly #node: Node;
  readonly #bump: () => void;
  #followed: readonly BlockNode[] = [];
  /** Changes that are taken for the own request's. */
  #own = 0;

  /** `bump` makes the number grow. */
  constructor(node: Node, bump: () => void) {
    this.#node = node;
    this.#bump = bump;
  }

  readonly #told = (): void => {
    if (this.#own > 0) this.#own -= 1;
    else this.#bump();
  };

  /** Looks at the graph as it is now. */
  follow(): void {
    const layers = layersOf(this.#node);
    const followed = this.#followed;
    if (layers.length === followed.length && layers.every((layer, index) => layer === followed[index]))
      return;
    for (const layer of followed) layer.changeListeners?.delete(this.#told);
    for (const layer of layers) (layer.changeListeners ??= new Set()).add(this.#told);
    this.#followed = layers;
    this.#bump();
  }

  /** A write of the own. A node without filters tells of it once; whatever is told beyond that is another's. */
  async write(offset: number, data: Uint8Array): Promise<void> {
    this.follow();
    this.#own = this.#followed.length === 1 ? 1 : 0;
    try {
      await this.#node.write(offset, data);
    } catch (error) {
      this.#bump();
      throw error;
    } finally {
      this.#own = 0;
    }
  }
}
