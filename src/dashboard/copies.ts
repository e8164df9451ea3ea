/**
 * Copies of the disk in this browser: what backup and mirror jobs make. A copy's node is there while its job is; afterwards
 * its image is closed, listed, and can be downloaded or removed.
 */
import type { RemoteEngine } from "../browser.ts";
import { overlayFormat } from "../drivers/format/defaults.ts";
import { h } from "./dom.ts";

/** What makes a copy. */
export type CopyKind = "backup" | "mirror";

interface Place {
  readonly file: { readonly driver: "opfs" | "indexeddb"; readonly filename: string };
  readonly words: string;
}

/** A mirror goes to another store than the disk's own. */
const places: Record<CopyKind, Place> = {
  backup: { file: { driver: "opfs", filename: "blockwright-demo/backup.qcow2" }, words: "in OPFS" },
  mirror: { file: { driver: "indexeddb", filename: "blockwright-demo/mirror" }, words: "in IndexedDB" },
};

const MEMORY = "blockwright-demo-copies";

function isKind(word: string): word is CopyKind {
  return word in places;
}

function remembered(): Set<CopyKind> {
  return new Set((localStorage.getItem(MEMORY) ?? "").split(" ").filter(isKind));
}

/** What the page does with a copy. */
export interface CopyActions {
  download: (kind: CopyKind) => Promise<void>;
  onError: (error: unknown) => void;
}

/** The copies and their list. */
export class Copies {
  readonly #engine: RemoteEngine;
  readonly #list: HTMLElement;
  readonly #actions: CopyActions;
  readonly #open = new Set<CopyKind>();

  constructor(engine: RemoteEngine, list: HTMLElement, actions: CopyActions) {
    this.#engine = engine;
    this.#list = list;
    this.#actions = actions;
    this.#show();
  }

  /** Makes an empty image for a job; its node has the kind's name. */
  async prepare(kind: CopyKind, size: number): Promise<void> {
    const { file } = places[kind];
    this.#keep(kind, false);
    await this.#engine.createImage({ driver: overlayFormat, file, size }, { overwrite: true });
    await this.#engine.qmp.execute("blockdev-add", { driver: overlayFormat, "node-name": kind, file });
    this.#open.add(kind);
  }

  /** The job of that id is over, and its copy is whole or not; jobs that make none are nothing to it. */
  async finish(kind: string, isWhole: boolean): Promise<void> {
    if (!isKind(kind) || !this.#open.delete(kind)) return;
    await this.#engine.qmp.execute("blockdev-del", { "node-name": kind });
    this.#keep(kind, isWhole);
  }

  /** The image's file as it lies in the store. */
  async read(kind: CopyKind): Promise<ReadableStream<Uint8Array>> {
    const disk = await this.#engine.open({ ...places[kind].file, "read-only": true });
    const stream = await disk.imageStream();
    const end = new TransformStream<Uint8Array, Uint8Array>({ flush: () => disk.close() });
    return stream.pipeThrough(end);
  }

  #keep(kind: CopyKind, isWhole: boolean): void {
    const kinds = remembered();
    if (isWhole) kinds.add(kind);
    else kinds.delete(kind);
    localStorage.setItem(MEMORY, [...kinds].join(" "));
    this.#show();
  }

  #show(): void {
    const kinds = [...remembered()];
    this.#list.replaceChildren(...kinds.map((kind) => this.#row(kind)));
    this.#list.hidden = kinds.length === 0;
  }

  #row(kind: CopyKind): HTMLElement {
    const run = (act: () => Promise<void>) => () => void act().catch(this.#actions.onError);
    const label = (what: string): string => `${what} the ${kind}`;
    const button = (what: string, act: () => Promise<void>): HTMLElement =>
      h("button", { type: "button", class: "small", "aria-label": label(what), onclick: run(act) }, what);
    return h(
      "li",
      {},
      h("span", {}, h("b", {}, kind), ` ${places[kind].words}`),
      button("Download", () => this.#actions.download(kind)),
      button("Remove", () => this.#remove(kind)),
    );
  }

  async #remove(kind: CopyKind): Promise<void> {
    await this.#engine.removeImage(places[kind].file);
    this.#keep(kind, false);
  }

  /** Removes all. */
  async forget(): Promise<void> {
    for (const kind of remembered()) await this.#remove(kind);
  }
}
