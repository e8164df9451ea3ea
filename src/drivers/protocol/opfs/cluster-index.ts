/**
 * Which slot of the data file holds a cluster of the disk: a table in pages, so that memory follows what is written and
 * not the size of the disk.
 */
import { assert } from "../../../base/assert.ts";

const PAGE_BITS = 12;
const PAGE_ENTRIES = 2 ** PAGE_BITS;

/** From cluster to slot. Clusters and slots are whole numbers below 2^32 - 1. */
export class ClusterIndex {
  readonly #pages = new Map<number, Uint32Array>();

  /** The slot, or -1. */
  get(cluster: number): number {
    const page = this.#pages.get(Math.floor(cluster / PAGE_ENTRIES));
    return page === undefined ? -1 : page[cluster % PAGE_ENTRIES]! - 1;
  }

  set(cluster: number, slot: number): void {
    assert(cluster >= 0 && slot >= 0, "a cluster has a slot");
    const key = Math.floor(cluster / PAGE_ENTRIES);
    let page = this.#pages.get(key);
    if (page === undefined) this.#pages.set(key, (page = new Uint32Array(PAGE_ENTRIES)));
    page[cluster % PAGE_ENTRIES] = slot + 1;
  }

  delete(cluster: number): void {
    const page = this.#pages.get(Math.floor(cluster / PAGE_ENTRIES));
    if (page) page[cluster % PAGE_ENTRIES] = 0;
  }

  /** How many of the `most` clusters from `cluster` on are held (or not held) as the first one is; at least 1. */
  runLength(cluster: number, most: number): number {
    assert(most > 0, "a look finds something");
    const held = this.get(cluster) >= 0;
    let run = 1;
    while (run < most) {
      const next = cluster + run;
      const page = this.#pages.get(Math.floor(next / PAGE_ENTRIES));
      if (page === undefined) {
        if (held) break;
        run += PAGE_ENTRIES - (next % PAGE_ENTRIES);
      } else {
        if (page[next % PAGE_ENTRIES]! > 0 !== held) break;
        run += 1;
      }
    }
    return Math.min(run, most);
  }

  /** The clusters in [first, end) that are held. */
  *heldWithin(first: number, end: number): Generator<number> {
    for (let cluster = first; cluster < end;) {
      const page = this.#pages.get(Math.floor(cluster / PAGE_ENTRIES));
      if (page === undefined) {
        cluster += PAGE_ENTRIES - (cluster % PAGE_ENTRIES);
      } else {
        if (page[cluster % PAGE_ENTRIES]! > 0) yield cluster;
        cluster += 1;
      }
    }
  }
}
