// A guest that writes to an image while its dirty bitmaps are made, cleared, switched, merged, used and removed; and what the
// image may say of them after a cut: whoever restores a backup of when a bitmap began, and copies over it what the bitmap says,
// gets the disk. Instants are those of the journal.
import type { BlockBackend } from "../../../src/block/graph/backend.ts";
import {
  addBitmap,
  clearBitmap,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from "../../../src/block/bitmap/commands.ts";
import { settleBitmaps } from "../../../src/block/bitmap/persistence.ts";
import type { BlockGraph } from "../../../src/block/graph/graph.ts";
import { Req } from "../../../src/block/model/contract.ts";
import { type DirtyBitmap, findDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import type { Journal } from "./journal.ts";

export const SECTOR = 512;
export const NAMES = ["a", "b", "c"];
/** Discarded: what it holds is not known. */
const ANYTHING = -2;
/** No disk grows beyond it. */
export const MOST_SECTORS = 3 * 2 ** 14;

/** A disk: the value of each sector; sectors behind the end are 0. */
export type Content = Int32Array;

/** What is known of a bitmap from an instant on. */
interface Known {
  readonly from: number;
  /** When the change was answered. */
  until: number;
  /** There is none. */
  readonly absent?: boolean;
  readonly auto: boolean;
  /** Backups that it goes on from. */
  readonly bases: readonly Content[];
  /** What it holds exactly, until the disk's length changes. */
  exact?: Uint8Array | undefined;
}

/** What a bitmap was found to be. */
export interface Found {
  readonly inconsistent: boolean;
  readonly auto: boolean;
  readonly bits: Uint8Array;
  isDirty(sector: number): boolean;
}

function eighth(sectors: number): number {
  return Math.floor(sectors / 8);
}

/** One image's life between two cuts. */
export class BitmapStory {
  readonly #journal: Journal;
  readonly #graph: BlockGraph;
  readonly #disk: BlockBackend;
  readonly #known = new Map<string, Known[]>();
  readonly #content: Content;
  #nextValue: number;

  constructor(init: {
    journal: Journal;
    graph: BlockGraph;
    disk: BlockBackend;
    content: Content;
    known: ReadonlyMap<string, Known>;
    value: number;
  }) {
    this.#journal = init.journal;
    this.#graph = init.graph;
    this.#disk = init.disk;
    this.#content = init.content;
    this.#nextValue = init.value;
    for (const [name, known] of init.known) this.#known.set(name, [{ ...known, from: -1, until: -1 }]);
  }

  get value(): number {
    return this.#nextValue;
  }

  #random(limit: number): number {
    return this.#journal.random(limit);
  }

  #bitmap(name: string): DirtyBitmap | undefined {
    return findDirtyBitmap(this.#graph.node("disk"), name);
  }

  /** The disk as it is now, for a bitmap that begins. What is under way changes it later, and so must be dirty then. */
  #base(): Content {
    return this.#content.slice();
  }

  async #write(first: number, count: number): Promise<void> {
    const kind = this.#random(8);
    const value = kind < 2 ? 0 : this.#nextValue++;
    this.#journal.now++;
    if (kind === 0) await this.#disk.pwriteZeroes(first * SECTOR, count * SECTOR, Req.mayUnmap);
    else if (kind === 1) await this.#disk.pdiscard(first * SECTOR, count * SECTOR);
    else {
      const data = new Uint8Array(count * SECTOR);
      new Int32Array(data.buffer).fill(value);
      await this.#disk.pwrite(first * SECTOR, data);
    }
    this.#content.fill(kind === 1 ? ANYTHING : value, first, first + count);
    this.#journal.now++;
  }

  /** Writes in lanes that do not meet, within the sectors [first, end). */
  async #volley(end: number, first = 0): Promise<void> {
    const lanes = 1 + this.#random(5);
    const lane = Math.floor((end - first) / lanes);
    await Promise.all(
      Array.from({ length: lanes }, async (_, index) => {
        const count = 1 + this.#random(Math.min(lane, 200));
        await this.#write(first + index * lane + this.#random(lane - count + 1), count);
      }),
    );
  }

  async act(): Promise<void> {
    const sectors = this.#disk.length / SECTOR;
    const kind = this.#random(10);
    if (kind === 0) await Promise.all([this.#resize(sectors), this.#volley(Math.floor(sectors / 4))]);
    else if (kind < 4) await this.#volley(sectors);
    else if (kind === 4) await Promise.all([this.#volley(sectors), this.#disk.flush()]);
    else if (this.#random(2) === 0) await this.#command();
    else await Promise.all([this.#volley(sectors, eighth(sectors)), this.#command()]);
  }

  async #resize(sectors: number): Promise<void> {
    const from = this.#journal.now++;
    for (const steps of this.#known.values())
      steps.push({ ...steps.at(-1)!, from, until: from, exact: undefined });
    const more = this.#random(3000);
    const isLonger = this.#random(2) === 1 && sectors + more <= MOST_SECTORS;
    const next = isLonger ? sectors + more : sectors - this.#random(Math.floor(sectors / 4));
    if (next < sectors) this.#content.fill(0, next);
    await this.#disk.root!.truncate(next * SECTOR, { exact: true, preallocation: "off" });
    this.#journal.now++;
  }

  #now(): { from: number; until: number } {
    return { from: this.#journal.now++, until: Infinity };
  }

  /** Something is done to a bitmap, and answered when the image says so. */
  async #command(): Promise<void> {
    const name = NAMES[this.#random(NAMES.length)]!;
    const bitmap = this.#bitmap(name);
    const steps = this.#known.get(name) ?? [];
    this.#known.set(name, steps);
    const last = steps.at(-1);
    const step = bitmap && last ? await this.#change(bitmap, last) : this.#add(name);
    if (!step) return;
    steps.push(step);
    await settleBitmaps(this.#graph.nodes);
    step.until = this.#journal.now++;
  }

  #add(name: string): Known {
    const disabled = this.#random(4) === 0;
    const step = { ...this.#now(), auto: !disabled, bases: [this.#base()] };
    addBitmap(this.#graph, { node: "disk", name, granularity: 4096, persistent: true, disabled });
    return { ...step, exact: disabled ? this.#bitmap(name)!.bitmap.serialize() : undefined };
  }

  async #change(bitmap: DirtyBitmap, last: Known): Promise<Known | undefined> {
    const of = { node: "disk", name: bitmap.name ?? "" };
    if (bitmap.busy) return undefined;
    const kind = this.#random(7);
    const step = { ...last, ...this.#now() };
    if (kind === 0) {
      removeBitmap(this.#graph, of);
      return { ...step, absent: true, bases: [], exact: undefined };
    }
    if (kind === 1) return this.#switch(bitmap, step);
    if (kind === 2) return this.#merge(bitmap, step);
    if (kind < 5 && bitmap.enabled) return this.#backup(bitmap, step);
    clearBitmap(this.#graph, of);
    return { ...step, bases: [this.#base()], exact: bitmap.enabled ? undefined : bitmap.bitmap.serialize() };
  }

  #switch(bitmap: DirtyBitmap, step: Known): Known {
    const enabled = !bitmap.enabled;
    enableBitmap(this.#graph, { node: "disk", name: bitmap.name! }, enabled);
    // What it missed meanwhile it does not know.
    if (enabled) return { ...step, auto: true, bases: [this.#base()], exact: undefined };
    return { ...step, auto: false, bases: [], exact: bitmap.bitmap.serialize() };
  }

  #merge(bitmap: DirtyBitmap, step: Known): Known | undefined {
    const other = NAMES[this.#random(NAMES.length)]!;
    const source = this.#bitmap(other);
    if (!source || source === bitmap || source.busy) return undefined;
    mergeBitmaps(this.#graph, { node: "disk", target: bitmap.name!, bitmaps: [other] });
    // A source that was off has missed what was written since.
    const more = bitmap.enabled && source.enabled ? (this.#known.get(other)?.at(-1)?.bases ?? []) : [];
    const exact = bitmap.enabled ? undefined : bitmap.bitmap.serialize();
    return { ...step, bases: [...step.bases, ...more], exact };
  }

  /** As an incremental backup does: it begins, the guest writes, it fails or not. */
  async #backup(bitmap: DirtyBitmap, step: Known): Promise<Known> {
    const base = this.#base();
    bitmap.createSuccessor();
    // Other writes are beyond: of two that meet nobody knows which one stays.
    await this.#volley(eighth(this.#disk.length / SECTOR)).catch(() => undefined);
    if (this.#random(3) === 0) {
      bitmap.reclaim();
      return step;
    }
    const from = this.#journal.now++;
    bitmap.abdicate();
    return { ...step, from, bases: [base] };
  }

  /** What is known at an instant: the changes that were answered, and one that may have happened. */
  known(at: number): Map<string, { done: Known | undefined; pending: Known | undefined }> {
    const all = new Map<string, { done: Known | undefined; pending: Known | undefined }>();
    for (const [name, steps] of this.#known) {
      const done = steps.findLast(({ until }) => until <= at);
      const pending = steps.findLast((step) => step.from <= at && step !== done && step.until > at);
      all.set(name, { done, pending });
    }
    return all;
  }
}

export type { Known };

/** Throws unless the bitmap may be so. Returns what is known of it from now on; undefined where it is not there. */
export function judgeBitmap(
  found: Found | undefined,
  { done, pending }: { done: Known | undefined; pending: Known | undefined },
  content: Content,
): Known | undefined {
  if (!found) {
    const mayBeAbsent = !done || done.absent || pending?.absent;
    if (!mayBeAbsent) throw new Error("the bitmap is gone");
    return undefined;
  }
  if (done?.absent && !pending) throw new Error("the bitmap is there again");
  if (found.inconsistent) throw new Error("the bitmap is inconsistent");
  const isNew = pending !== undefined && !pending.absent;
  if (!pending && done && found.auto !== done.auto) throw new Error(`it records: ${String(found.auto)}`);
  if (!pending && done?.exact && !sameBits(done.exact, found.bits))
    throw new Error("a bitmap that is off changed");
  if (!found.auto) return { from: 0, until: 0, auto: false, bases: [], exact: found.bits };
  // What is not in force yet says more.
  const bases = (isNew ? pending.auto : done?.auto) ? (isNew ? pending : done!).bases : [];
  const newest = isNew && pending.bases.length > (done?.bases.length ?? 0) ? (done?.bases ?? []) : bases;
  for (const base of newest)
    for (const [sector, value] of content.entries())
      if (value !== base[sector] && base[sector] !== ANYTHING && !found.isDirty(sector))
        throw new Error(`sector ${sector} was ${base[sector]}, is ${value}, and is not dirty`);
  return { from: 0, until: 0, auto: true, bases: newest };
}

function sameBits(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}
