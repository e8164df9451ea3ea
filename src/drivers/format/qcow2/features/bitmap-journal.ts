/**
 * The life of the journal of dirty bitmaps while an image is open for writing: what is written to since the bitmaps were stored is
 * noted in the image before the data is, region by region, so that a crash loses no dirty bit.
 *
 * Invariants: a change is given to the driver only when the bits of its regions are durable (`cover`), so the first one in a region costs a
 * sector and a flush, and all others nothing. What is stored anew is taken in one turn with the regions of all requests that
 * have begun and are not over; until it counts nothing more begins. Regions lose bits only after that. Whatever fails ends the journal: its
 * bit is taken off the header, and the bitmaps are inconsistent after a crash, as they are without one, until they are stored again: when
 * one changes otherwise than by recording, or after some writes, twice as many after each failure.
 */
import { blockError } from "../../../../base/errors.ts";
import { encodeName } from "../../../../base/names.ts";
import { type ByteRange } from "../../../../base/ranges.ts";
import { Mutex } from "../../../../base/signals.ts";
import type { WriteAhead } from "../../../../block/model/contract.ts";
import { nodeOf } from "../../../../block/model/node.ts";
import {
  emptyRegions,
  type JournalPlace,
  type JournalSlot,
  regionBits,
  type Regions,
  regionsAt,
  sectorOf,
  serializeJournal,
  serializeRegions,
  serializeSlot,
  setBits,
  slotAt,
} from "../disk/bitmap-journal.ts";
import { serializeHeader } from "../disk/header.ts";
import type { Image } from "../metadata/image.ts";
import { clearJournalBit } from "./bitmap-directory.ts";

/** As many regions ahead are noted at most, where those before are written to. */
const MOST_AHEAD = 64;
/**
 * After so many notes twice as many neighbours are noted at a time: who writes everywhere waits 60 to 100 times in all, which 100 000
 * writes don't see in their 99th percentile.
 */
const NOTES_A_DOUBLING = 8;
/** Writes after which a journal that an error has ended is begun anew, at first. */
const WRITES_BEFORE_RETRY = 256;
/** What the extension that names the directory takes, if it is not there yet. */
const DIRECTORY_EXTENSION_BYTES = 32;

/** The regions that the image has, and where the slot in force is. */
interface Live {
  readonly regions: Regions;
  readonly slot: number;
}

/** The journal of one image. */
export class BitmapJournal implements WriteAhead {
  readonly #image: Image;
  readonly #place: JournalPlace;
  readonly #store: () => Promise<void>;
  readonly #mutex = new Mutex();
  /** Undefined: the image has no bitmaps that could miss anything. */
  #live: Live | undefined;
  #regionBytes = 1;
  /** The regions of what was under way when the bitmaps were taken that are being stored. */
  #fresh: Regions | undefined;
  /** How often regions were noted since the bitmaps were stored. */
  #notes = 0;
  #wanted: { first: number; last: number }[] = [];
  #round: Promise<void> | undefined;
  #renewal: Promise<void> | undefined;
  #changes = 0;
  #kept = 0;
  /** Writes that are to come before the bitmaps are stored again; 0: no error has ended the journal. */
  #untilRetry = 0;
  #patience = WRITES_BEFORE_RETRY;
  #failure: unknown;

  /** `store` takes the bitmaps in its first turn and puts them into the image, by way of `prepare` and `switched`. */
  constructor(image: Image, place: JournalPlace, store: () => Promise<void>) {
    this.#image = image;
    this.#place = place;
    this.#store = store;
  }

  /** Goes on with what a crash has left. */
  adopt(live: Live): void {
    this.#live = live;
    this.#untilRetry = 0;
    this.#notes = 0;
    this.#regionBytes = 2 ** live.regions.bits;
    this.#image.headerEnd = this.#place.at;
  }

  cover(offset: number, bytes: number): Promise<void> | undefined {
    if (this.#untilRetry > 0 && (this.#untilRetry -= 1) === 0) this.changed();
    if (this.#kept !== this.#changes) return this.settle();
    if (this.#failure !== undefined) return this.#tell();
    if (!this.#live || bytes <= 0) return undefined;
    const { set } = this.#live.regions;
    const { first, last } = this.#regionsOf(offset, bytes);
    for (let region = first; region <= last; region++)
      if (!isSet(set, region)) return this.#mark(set, first, last);
    return undefined;
  }

  changed(): void {
    if (this.#failure === undefined) this.#changes += 1;
  }

  settle(): Promise<void> {
    if (this.#kept === this.#changes) return Promise.resolve();
    return (this.#renewal ??= this.#mutex.run(() => this.#renew()));
  }

  async resizing<T>({ offset, bytes }: ByteRange, body: () => Promise<T>): Promise<T> {
    await this.settle();
    return this.#mutex.run(async () => {
      if (bytes > 0) this.#wanted.push(this.#regionsOf(offset, bytes));
      await this.#note();
      return body();
    });
  }

  #regionsOf(offset: number, bytes: number): { first: number; last: number } {
    const most = (this.#live?.regions.set.byteLength ?? 0) * 8 - 1;
    const first = Math.min(most, Math.floor(offset / this.#regionBytes));
    return { first, last: Math.min(most, Math.floor((offset + bytes - 1) / this.#regionBytes)) };
  }

  /** Notes the regions, with neighbours; a disk that is written from one end to the other waits for a number that doubles. */
  #mark(set: Uint8Array, first: number, last: number): Promise<void> {
    const group = 2 ** Math.floor(this.#notes / NOTES_A_DOUBLING);
    let ahead = 0;
    while (ahead < MOST_AHEAD && ahead < first && isSet(set, first - 1 - ahead)) ahead += 1;
    const to = Math.max(last + ahead, last - (last % group) + group - 1);
    const end = Math.max(last, this.#regionsOf(this.#image.size - 1, 1).last);
    this.#wanted.push({ first: first - (first % group), last: Math.min(to, end) });
    return (this.#round ??= this.#mutex.run(() => this.#note()));
  }

  /** Makes the bits of all regions durable that are waited for. Under the mutex. */
  async #note(): Promise<void> {
    this.#round = undefined;
    const wanted = this.#wanted;
    this.#wanted = [];
    if (!this.#live || wanted.length === 0) return;
    const { regions, slot } = this.#live;
    const next = { bits: regions.bits, set: regions.set.slice() };
    const sectors = new Set<number>();
    for (const { first, last } of wanted) {
      setBits(next.set, first, last + 1);
      for (let sector = sectorOf(first); sector <= sectorOf(last); sector++) sectors.add(sector);
    }
    try {
      await this.#image.locked(() => this.#writeRegions(next, sectors));
      await this.#image.file.flush();
      this.#live = { regions: next, slot };
      this.#notes += 1;
    } catch {
      await this.#retire();
    }
  }

  async #writeRegions(regions: Regions, sectors: Iterable<number>): Promise<void> {
    this.#checkRoom(0);
    for (const sector of sectors) {
      const bytes = serializeRegions(regions, sector, this.#checksum);
      await this.#image.file.pwrite(this.#place.at + regionsAt(sector), bytes);
    }
  }

  /** Has the image say what changed. Under the mutex. */
  async #renew(): Promise<void> {
    this.#renewal = undefined;
    const changes = this.#changes;
    if (this.#kept === changes) return;
    this.#fresh = this.#underWay();
    try {
      await this.#store();
    } catch {
      await this.#retire();
    }
    this.#kept = changes;
  }

  #underWay(): Regions {
    const bits = this.#live?.regions.bits ?? regionBits(this.#image.size, this.#place);
    const set = emptyRegions(this.#place);
    const most = set.byteLength * 8 - 1;
    for (const { offset, bytes } of nodeOf(this.#image.node).requests.changes()) {
      const [first, last] = [offset, offset + bytes - 1].map((at) =>
        Math.min(most, Math.floor(at / 2 ** bits)),
      );
      setBits(set, first!, last! + 1);
    }
    return { bits, set };
  }

  /** The first step of storing: the slot of the directory that will count, which is to be durable before it does. Under the lock. */
  async prepare(slot: JournalSlot): Promise<void> {
    const { file } = this.#image;
    this.#checkRoom(DIRECTORY_EXTENSION_BYTES);
    this.#image.headerEnd = this.#place.at;
    const regions = (this.#fresh ??= this.#underWay());
    const bytes = this.#live
      ? serializeSlot(slot, this.#checksum)
      : serializeJournal(slot, regions, this.#checksum);
    const at = this.#live ? slotAt(1 - this.#live.slot) : 0;
    await file.pwrite(this.#place.at + at, bytes);
  }

  /** The last step: the new directory is in force, durably. Under the lock. */
  async switched(): Promise<void> {
    const regions = this.#fresh ?? this.#underWay();
    this.#fresh = undefined;
    const before = this.#live;
    this.#patience = WRITES_BEFORE_RETRY;
    this.adopt({ regions, slot: before ? 1 - before.slot : 0 });
    // Only bits that are of no use any more are lost if this is not durable.
    if (before)
      await this.#writeRegions(
        regions,
        Array.from({ length: this.#place.sectors }, (_, at) => at),
      );
  }

  /** There are no bitmaps in the image any more. */
  rest(): void {
    this.#live = undefined;
    this.#fresh = undefined;
    this.#image.headerEnd = this.#image.geometry.clusterSize;
  }

  /** Ends the journal until the bitmaps are stored again. */
  async #retire(): Promise<void> {
    this.#kept = this.#changes;
    this.#untilRetry = this.#patience;
    this.#patience *= 2;
    this.rest();
    try {
      await clearJournalBit(this.#image);
    } catch (error) {
      // The image may say that it has all that is written from now on.
      this.#failure = error;
    }
  }

  /** Tries once more to have the image say that it has no journal; until it does nothing is written. */
  #tell(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#failure === undefined) return;
      await clearJournalBit(this.#image);
      this.#failure = undefined;
    });
  }

  /** Throws ENOSPC unless the header leaves the journal's place alone, also if it gets `more` bytes. */
  #checkRoom(more: number): void {
    const { header } = this.#image;
    const name = encodeName(header.backingFile ?? "").byteLength;
    const plain = serializeHeader({ ...header, backingFile: undefined }).bytes.byteLength + more;
    if (Math.max(plain + name, header.backingOffset + name) > this.#place.at)
      throw blockError("ENOSPC", "bitmap journal");
  }

  readonly #checksum = (bytes: Uint8Array): number => this.#image.node.services.kernels.crc32c(bytes);
}

function isSet(set: Uint8Array, region: number): boolean {
  return ((set[region >> 3] ?? 0) & (1 << (region & 7))) !== 0;
}
