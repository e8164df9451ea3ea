/**
 * Persistent dirty bitmaps in a qcow2 image. While the image is open for writing its bitmaps are marked in use: QEMU takes them
 * for inconsistent after a crash, and so do we unless the journal (bitmap-journal.ts) tells what was written to since they were stored.
 * Closing writes them anew. Source: qcow2.txt, "Bitmaps".
 *
 * Order of storing: data, tables, directory and the journal's slot for it, then (all durable) the directory is switched
 * (bitmap-directory.ts). The old clusters are freed after that.
 */
import { encodeName } from "../../../../base/names.ts";
import { blockError, CommandError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import type { BitmapStore, StoredBitmap, WriteAhead } from "../../../../block/model/contract.ts";
import { free } from "../metadata/allocate.ts";
import {
  BitmapFlag,
  type DirectoryEntry,
  type DirectoryPlace,
  parseDirectory,
  serializeDirectory,
} from "../disk/bitmap-directory.ts";
import { journalPlace, type JournalSlot, MOST_JOURNALED_BITMAPS } from "../disk/bitmap-journal.ts";
import {
  clearJournalBit,
  note,
  placeInFile,
  setJournalBit,
  switchDirectory,
  trustedPlace,
} from "./bitmap-directory.ts";
import { BitmapJournal } from "./bitmap-journal.ts";
import { directoryCrc, findJournal, type FoundJournal, recoverBits } from "./found-journal.ts";
import {
  checkTotal,
  clustersOf,
  place as placeBytes,
  readBits,
  type Run,
  runOf,
  writeBitmap,
} from "./bitmap-tables.ts";
import type { Image } from "../metadata/image.ts";
import { writeBackLocked } from "../metadata/write-back.ts";

/** The bitmap directory of one open image. */
export class Qcow2Bitmaps implements BitmapStore {
  readonly #image: Image;
  #entries: DirectoryEntry[] = [];
  #found: FoundJournal | undefined;
  #journal: BitmapJournal | undefined;

  constructor(image: Image) {
    this.#image = image;
  }

  /** What info shows, wire names. */
  info(): { name: string; granularity: number; flags: string[] }[] {
    return this.#entries.map(({ name, granularityBits, flags }) => ({
      name,
      granularity: 2 ** granularityBits,
      flags: [...(flags & BitmapFlag.inUse ? ["in-use"] : []), ...(flags & BitmapFlag.auto ? ["auto"] : [])],
    }));
  }

  canStore(name: string): void {
    const refuse = (why: string): never => {
      throw new CommandError(`Can't make bitmap '${name}' persistent in '${this.#image.node.name}': ${why}`);
    };
    if (this.#image.size === 0) refuse("The disk has no length");
    if (this.#image.header.version < 3) refuse("Cannot store dirty bitmaps in qcow2 v2 files");
    if (encodeName(name).byteLength > limits.maxBitmapNameBytes)
      refuse(`Name length exceeds maximum (${limits.maxBitmapNameBytes} characters)`);
    if (this.#entries.length >= limits.qcow2MaxBitmaps)
      refuse("Maximum number of persistent bitmaps is already reached");
  }

  /** Reads all bitmaps and changes nothing. Who writes to the image marks them in use before. */
  async load(): Promise<StoredBitmap[]> {
    const image = this.#image;
    const place = trustedPlace(image);
    if (!place) return [];
    note(image, place);
    const bytes = new Uint8Array(place.bytes);
    await image.file.pread(place.offset, bytes);
    const { clusterSize } = image.geometry;
    this.#entries = parseDirectory(bytes, { count: place.count, clusterSize, diskBytes: image.size });
    checkTotal(this.#entries, image.size);
    this.#found = await findJournal(image, place, this.#entries);
    const loaded: StoredBitmap[] = [];
    for (const [index, entry] of this.#entries.entries()) loaded.push(await this.#loadOne(entry, index));
    return loaded;
  }

  /** The image is about to be written to: a crash from now on leaves the bitmaps inconsistent, or the journal tells the rest. */
  async markInUse(current: () => readonly StoredBitmap[]): Promise<WriteAhead | undefined> {
    const image = this.#image;
    const place = trustedPlace(image);
    await this.#beginJournal(current, this.#entries.length > 0 ? place : undefined);
    if (!place || this.#entries.length === 0) return this.#journal;
    for (const entry of this.#entries) entry.flags |= BitmapFlag.inUse;
    await image.file.pwrite(place.offset, serializeDirectory(this.#entries));
    await image.file.flush();
    return this.#journal;
  }

  async #beginJournal(
    current: () => readonly StoredBitmap[],
    place: DirectoryPlace | undefined,
  ): Promise<void> {
    const image = this.#image;
    const where = journalPlace(image.geometry.clusterSize);
    const found = this.#found;
    this.#found = undefined;
    const canBe = where && image.options.bitmapJournal && image.header.version >= 3;
    const journal = canBe ? new BitmapJournal(image, where, () => this.#renew(current)) : undefined;
    this.#journal = journal;
    const inUse = this.#entries.filter(({ flags }) => flags & BitmapFlag.inUse);
    if (journal && place && found && inUse.length > 0) {
      journal.adopt(found);
      if (inUse.length === this.#entries.length) return;
      // A crash came while they were marked: nothing says that the journal is about all of them.
      journal.changed();
      return journal.settle();
    }
    await clearJournalBit(image);
    if (journal && place) await this.#startJournal(journal, place);
  }

  /** The journal of an image whose bitmaps are as they were stored, or inconsistent. */
  async #startJournal(journal: BitmapJournal, place: DirectoryPlace): Promise<void> {
    const image = this.#image;
    if ((await placeInFile(image)) === undefined || this.#entries.length > MOST_JOURNALED_BITMAPS) {
      this.#journal = undefined;
      return;
    }
    const right = this.#entries.map(({ flags }) => (flags & BitmapFlag.inUse) === 0);
    await image.locked(async () => {
      await journal.prepare(this.#slot(place, this.#entries, right));
      // Nothing that an older journal has left may count.
      await image.file.flush();
      await setJournalBit(image);
      await journal.switched();
    });
  }

  #slot(place: DirectoryPlace, entries: readonly DirectoryEntry[], right: readonly boolean[]): JournalSlot {
    return { place, directoryCrc: directoryCrc(this.#image, entries), diskBytes: this.#image.size, right };
  }

  async #loadOne(entry: DirectoryEntry, index: number): Promise<StoredBitmap> {
    const granularity = 2 ** entry.granularityBits;
    const auto = (entry.flags & BitmapFlag.auto) !== 0;
    const stored = { name: entry.name, granularity, auto };
    const isInUse = (entry.flags & BitmapFlag.inUse) !== 0;
    const bits = isInUse
      ? await recoverBits(this.#image, { entry, index, found: this.#found })
      : await this.#read(entry);
    return bits
      ? { ...stored, inconsistent: false, bits }
      : { ...stored, inconsistent: true, bits: new Uint8Array(0) };
  }

  #read(entry: DirectoryEntry): Promise<Uint8Array> {
    return readBits(this.#image, entry, this.#image.size);
  }

  /** Writes the bitmaps and forgets the ones that are in the file. */
  async save(bitmaps: readonly StoredBitmap[]): Promise<void> {
    const image = this.#image;
    if (bitmaps.length === 0 && this.#entries.length === 0) return;
    await image.locked(async () => {
      await this.#store(bitmaps);
      await writeBackLocked(image);
    });
    this.#journal?.rest();
    this.#journal = undefined;
    await clearJournalBit(image);
  }

  /** The bitmaps have changed otherwise than by what the journal tells. */
  async #renew(current: () => readonly StoredBitmap[]): Promise<void> {
    const bitmaps = current();
    if (bitmaps.length === 0 && this.#entries.length === 0) return;
    await this.#image.locked(() => this.#store(bitmaps, this.#journal));
  }

  /** Of a disk without length the format holds none: no program would open an image with a bitmap of no bits. */
  async #store(given: readonly StoredBitmap[], journal?: BitmapJournal): Promise<void> {
    const image = this.#image;
    const bitmaps = image.size === 0 ? [] : given;
    const trusted = trustedPlace(image);
    const at = trusted ? await placeInFile(image) : undefined;
    const mayTell = bitmaps.length <= MOST_JOURNALED_BITMAPS && (!trusted || at !== undefined);
    if (journal && !mayTell) throw blockError("ENOSPC", "bitmap journal");
    const old = trusted ? await this.#clusters(trusted) : [];
    const made: Run[] = [];
    let entries: DirectoryEntry[] = [];
    let place: DirectoryPlace | undefined;
    try {
      for (const bitmap of bitmaps) entries.push(await writeBitmap(image, bitmap, made));
      if (journal) entries = entries.map((entry) => ({ ...entry, flags: entry.flags | BitmapFlag.inUse }));
      place = await this.#placeDirectory(entries, made);
      await writeBackLocked(image);
      const right = bitmaps.map(({ inconsistent }) => !inconsistent);
      if (journal && place) await journal.prepare(this.#slot(place, entries, right));
      await image.file.flush();
    } catch (error) {
      for (const run of made) free(image, run, "other");
      throw error;
    }
    await switchDirectory(image, { place, at, journaled: journal !== undefined });
    this.#entries = entries;
    if (place) await journal?.switched();
    else journal?.rest();
    for (const run of old) free(image, run, "other");
  }

  async #placeDirectory(
    entries: readonly DirectoryEntry[],
    made: Run[],
  ): Promise<DirectoryPlace | undefined> {
    const bytes = serializeDirectory(entries);
    if (bytes.byteLength === 0) return undefined;
    const offset = await placeBytes(this.#image, bytes, made);
    return { count: entries.length, bytes: bytes.byteLength, offset };
  }

  /** The clusters of what is in the file now. */
  async #clusters(place: DirectoryPlace): Promise<Run[]> {
    const runs = [runOf(this.#image, place.offset, place.bytes)];
    for (const entry of this.#entries) runs.push(...(await clustersOf(this.#image, entry)));
    return runs;
  }
}
