/**
 * The index of a disk in chunks: which object holds which chunk. Pages are loaded when they are asked for, and written, with the
 * head after them, when the disk is flushed.
 *
 * Invariants: `publish` puts the head only over the one that was read or put last (the store's compare-and-set). Where another
 * writer was first, nothing is published any more (ESTALE), and nothing of the other's is touched. What a new head no longer
 * names is removed after it is there, never before.
 */
import { BlockError, blockError, errnoOf } from "../../../../base/errors.ts";
import type { Host } from "../../../../base/host.ts";
import { settleAll } from "../../../../base/signals.ts";
import { type Condition, hexHash, type Store } from "./client.ts";
import { deleteObject, putObject } from "./objects.ts";
import { collected, putHead, randomName, type ReadHead } from "./heads.ts";
import {
  formatPage,
  type Head,
  hashInName,
  MAX_PAGE_BYTES,
  PAGE_CHUNKS,
  pageCount,
  parsePage,
  partPlace,
} from "./format.ts";
import { type ObjectPlace, urlOf } from "./names.ts";

/** Objects that are removed at once. */
const REMOVALS = 8;

interface Page {
  /** Null: it is to be written. */
  name: string | null;
  /** Counts the changes. */
  version: number;
  readonly chunks: (string | null)[];
}

/** See the file's head. */
export class IndexMap {
  readonly #store: Store;
  readonly #place: ObjectPlace;
  readonly #writer: string;
  readonly chunkBytes: number;
  #head: Head;
  #etag: string;
  readonly #pages = new Map<number, Promise<Page>>();
  #size: number;
  #count = 0;
  #changed = false;
  #lost: BlockError | undefined;
  /** Names that the next head does not name any more. */
  #dropped: string[] = [];
  /** What was put since the head that is there. */
  #unpublished: string[] = [];

  constructor(store: Store, place: ObjectPlace, { read, host }: { read: ReadHead; host: Host }) {
    this.#store = store;
    this.#place = place;
    this.#writer = randomName(host);
    this.#head = read.head;
    this.#etag = read.etag;
    this.#size = read.head.size;
    this.chunkBytes = read.head.chunkBytes;
  }

  get etag(): string {
    return this.#etag;
  }

  get size(): number {
    return this.#size;
  }

  get chunks(): number {
    return Math.ceil(this.#size / this.chunkBytes);
  }

  /** Changes the size; chunks beyond it are forgotten. */
  async resize(size: number): Promise<void> {
    const before = this.chunks;
    this.#changed ||= size !== this.#size;
    this.#size = size;
    for (let chunk = this.chunks; chunk < before; chunk++) {
      if (this.#isEmptyPage(chunk)) chunk = (Math.floor(chunk / PAGE_CHUNKS) + 1) * PAGE_CHUNKS - 1;
      else await this.set(chunk, null);
    }
  }

  #isEmptyPage(chunk: number): boolean {
    const page = Math.floor(chunk / PAGE_CHUNKS);
    return !this.#pages.has(page) && (this.#head.pages[page] ?? null) === null;
  }

  /** The object that holds a chunk; null: zeroes. */
  async get(chunk: number): Promise<string | null> {
    if (this.#isEmptyPage(chunk)) return null;
    const page = await this.#page(chunk);
    return page.chunks[chunk % PAGE_CHUNKS] ?? null;
  }

  /** Says which object holds a chunk from the next head on. */
  async set(chunk: number, name: string | null): Promise<void> {
    if (name === null && this.#isEmptyPage(chunk)) return;
    const page = await this.#page(chunk);
    const before = page.chunks[chunk % PAGE_CHUNKS] ?? null;
    if (before === name) return;
    page.chunks[chunk % PAGE_CHUNKS] = name;
    if (before !== null) this.#dropped.push(before);
    if (page.name !== null) this.#dropped.push(page.name);
    page.name = null;
    page.version += 1;
    this.#changed = true;
  }

  /** Stores a chunk; one that is as what is stored of it costs nothing. */
  async store(chunk: number, content: Uint8Array<ArrayBuffer>): Promise<void> {
    this.check();
    const hash = (await hexHash(content)).slice(0, 32);
    const before = await this.get(chunk);
    if (before === null || hashInName(before) !== hash) await this.set(chunk, await this.#put(content, hash));
  }

  /** Puts an immutable object and answers its name. */
  async #put(body: Uint8Array<ArrayBuffer>, hash: string): Promise<string> {
    this.check();
    this.#count += 1;
    const number = this.#count.toString(36);
    const name = `${this.#writer}-${number}-${hash}`;
    try {
      await putObject(this.#store, partPlace(this.#place, name), { body, condition: { over: "nothing" } });
    } catch (error) {
      // A try whose answer was lost: what is there has the name of its own content.
      if (errnoOf(error) !== "ESTALE") throw error;
    }
    this.#unpublished.push(name);
    return name;
  }

  /** Reads an immutable object, and checks it. */
  async read(name: string, most: number): Promise<Uint8Array<ArrayBuffer>> {
    const place = partPlace(this.#place, name);
    try {
      return await this.#store.request({ method: "GET", place }, async (response) => {
        const bytes = new Uint8Array(await collected(response.body, most));
        if ((await hexHash(bytes)).startsWith(hashInName(name))) return bytes;
        throw blockError("EIO", "pread", `${urlOf(place)}: what came is not what was stored`);
      });
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      // Its writer goes on, and has removed what its new head does not name.
      const message = `${urlOf(this.#place)} has changed: a part of it is gone`;
      throw new BlockError({ code: "ESTALE", op: "pread", message, cause: error });
    }
  }

  /** Throws once another writer was first. */
  check(): void {
    if (this.#lost) throw this.#lost;
  }

  /** Whether anything is to be published. */
  get isChanged(): boolean {
    return this.#changed;
  }

  /** Writes pages that have changed, and the head, if anything has. What changes meanwhile is left to the next one. */
  async publish(): Promise<void> {
    this.check();
    if (!this.#changed) return;
    const loaded = new Map<number, Page>();
    for (const [i, page] of this.#pages) loaded.set(i, await page);
    const [dropped, unpublished] = [this.#dropped, this.#unpublished];
    [this.#dropped, this.#unpublished, this.#changed] = [[], [], false];
    try {
      // The size and all pages are those of this moment.
      const size = this.#size;
      const pages = await this.#writePages(loaded, pageCount(size, this.chunkBytes));
      const generation = this.#head.generation + 1;
      await this.#swap({ writer: this.#writer, generation, size, chunkBytes: this.chunkBytes, pages });
    } catch (error) {
      this.#dropped.unshift(...dropped);
      this.#unpublished.unshift(...unpublished);
      this.#changed = true;
      if (this.#lost) await this.#remove(this.#unpublished);
      throw error;
    }
    await this.#remove(dropped);
  }

  async #swap(head: Head): Promise<void> {
    const condition: Condition = { over: { etag: this.#etag } };
    try {
      this.#etag = await putHead(this.#store, this.#place, { head, condition });
      this.#head = head;
    } catch (cause) {
      const errno = errnoOf(cause);
      if (errno !== "ESTALE" && errno !== "ENOENT") throw cause;
      const why =
        errno === "ESTALE" ? "another writer has changed it since it was opened" : "it has been removed";
      const message = `${urlOf(this.#place)}: ${why}; nothing that was written since the last flush is in it`;
      this.#lost = new BlockError({ code: "ESTALE", op: "flush", message, cause });
      throw this.#lost;
    }
  }

  async #writePages(loaded: ReadonlyMap<number, Page>, count: number): Promise<(string | null)[]> {
    const pages = Array.from({ length: count }, (_none, i) => this.#head.pages[i] ?? null);
    const write = async (i: number, page: Page): Promise<void> => {
      const { version } = page;
      const isUsed = page.chunks.some((name) => name !== null);
      const name = page.name ?? (isUsed ? await this.#putPage(page) : null);
      pages[i] = name;
      if (page.version === version) page.name = name;
      else if (name !== null) this.#dropped.push(name);
    };
    await settleAll([...loaded].flatMap(([i, page]) => (i < count ? write(i, page) : [])));
    return pages;
  }

  async #putPage({ chunks }: Page): Promise<string> {
    const bytes = formatPage(chunks);
    return this.#put(bytes, (await hexHash(bytes)).slice(0, 32));
  }

  /** What nobody needs any more costs no more than its place: that it could not be removed is no error. */
  async #remove(names: readonly string[]): Promise<void> {
    for (let at = 0; at < names.length; at += REMOVALS) {
      const some = names.slice(at, at + REMOVALS);
      await Promise.allSettled(some.map((name) => deleteObject(this.#store, partPlace(this.#place, name))));
    }
  }

  #page(chunk: number): Promise<Page> {
    const i = Math.floor(chunk / PAGE_CHUNKS);
    let page = this.#pages.get(i);
    if (!page) {
      page = this.#loadPage(this.#head.pages[i] ?? null);
      this.#pages.set(i, page);
      page.catch(() => this.#pages.delete(i));
    }
    return page;
  }

  async #loadPage(name: string | null): Promise<Page> {
    if (name === null) return { name, version: 0, chunks: Array.from({ length: PAGE_CHUNKS }, () => null) };
    const bytes = await this.read(name, MAX_PAGE_BYTES);
    return { name, version: 0, chunks: parsePage(new TextDecoder().decode(bytes)) };
  }
}
