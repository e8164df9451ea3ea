/**
 * The slots of the data file: who owns each, which are free, and which changes the map file has yet to be told.
 * Invariant: a freed slot is taken again only after its freeing is durable, so that no crash shows one cluster's data as
 * another's.
 */
import { assert } from "../../../base/assert.ts";

/** Slots by number, from 0 on; owners are cluster + 1, 0 for none. */
export class Slots {
  #owners = new Uint32Array(1024);
  /** Slots of the data file, the last one in use. */
  #count = 0;
  /** Free and durably so; the lowest last. */
  readonly #free: number[] = [];
  /** Freed since the last commit. */
  readonly #freed: number[] = [];
  readonly #changed = new Set<number>();

  /** Slots up to the last one that is in use or not durably free. */
  get count(): number {
    return this.#count;
  }

  /** Slots that hold a cluster. */
  get used(): number {
    return this.#count - this.#free.length - this.#freed.length;
  }

  get hasChanges(): boolean {
    return this.#changed.size > 0;
  }

  ownerOf(slot: number): number {
    return slot < this.#owners.length ? this.#owners[slot]! : 0;
  }

  /** Notes an entry of the map file, at the opening. */
  load(slot: number, cluster: number): void {
    this.#setOwner(slot, cluster + 1);
    this.#count = Math.max(this.#count, slot + 1);
  }

  /** Lists the free slots, once all entries are loaded. */
  loaded(): void {
    for (let slot = this.#count - 1; slot >= 0; slot--) if (this.#owners[slot] === 0) this.#free.push(slot);
  }

  /** A slot without an owner; the caller gives it one, or hands it back by `unused`. */
  take(): number {
    const slot = this.#free.pop();
    assert(slot === undefined || this.ownerOf(slot) === 0, "a free slot has no owner");
    if (slot !== undefined) return slot;
    this.#count += 1;
    return this.#count - 1;
  }

  /** Hands back a slot that was taken and got no owner. */
  unused(slot: number): void {
    assert(this.ownerOf(slot) === 0, "a cluster's slot was handed back as unused");
    if (slot === this.#count - 1) this.#count -= 1;
    else this.#free.push(slot);
    this.#free.sort((a, b) => b - a);
  }

  own(slot: number, cluster: number): void {
    assert(this.ownerOf(slot) === 0 && slot < this.#count, "a slot got a second owner");
    this.#setOwner(slot, cluster + 1);
    this.#changed.add(slot);
  }

  /** Takes a slot from its owner. */
  release(slot: number): void {
    assert(this.ownerOf(slot) !== 0, "a slot was freed twice");
    this.#owners[slot] = 0;
    this.#changed.add(slot);
    this.#freed.push(slot);
  }

  /** Runs of slots whose entries changed, in ascending order. */
  *changedRuns(): Generator<{ first: number; count: number }> {
    const slots = Uint32Array.from(this.#changed).toSorted();
    for (let i = 0; i < slots.length;) {
      let next = i + 1;
      while (next < slots.length && slots[next] === slots[next - 1]! + 1) next += 1;
      yield { first: slots[i]!, count: next - i };
      i = next;
    }
  }

  /** The map file has all changes, durably. Lowers `count` to the last slot in use. */
  committed(): void {
    this.#changed.clear();
    if (this.#freed.length > 0) {
      this.#free.push(...this.#freed.splice(0));
      this.#free.sort((a, b) => b - a);
    }
    if (this.#free.length === 0 || this.#free[0] !== this.#count - 1) return;
    let tail = 0;
    while (tail < this.#free.length && this.#free[tail] === this.#count - 1 - tail) tail += 1;
    this.#free.splice(0, tail);
    this.#count -= tail;
    assert(this.#count >= this.#free.length, "free slots are slots");
  }

  #setOwner(slot: number, owner: number): void {
    if (slot >= this.#owners.length) {
      const grown = new Uint32Array(Math.max(slot + 1, this.#owners.length * 2));
      grown.set(this.#owners);
      this.#owners = grown;
    }
    this.#owners[slot] = owner;
  }
}
