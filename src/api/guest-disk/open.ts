/**
 * Opening a guest's disk over an image on a server: what an earlier visit left, in the store where it is, or a new overlay in
 * the best store there is.
 *
 * Invariants: an overlay is made only when its base can be read; which version of the base it is made over is held against
 * the base before anything is read (ESTALE); an overlay that is whole needs no base and no server.
 */
import { BlockError, errnoOf, messageOf, blockError } from "../../base/errors.ts";
import type { ContentVersion, DriverType } from "../../block/model/contract.ts";
import type { Engine } from "../../machine/engine.ts";
import type { Node } from "../node.ts";
import { type CreateImageSpec, createImageIn, openNodeIn, removeImageIn } from "../open.ts";
import type { OpenSpec } from "../specs.ts";
import { OpenedGuestDisk, type OpenedOverlay } from "./disk.ts";
import {
  baseSpec,
  checkOpenGuestDisk,
  diskName,
  type GuestStore,
  type OpenGuestDiskOptions,
  overlayFile,
} from "./options.ts";

const STORES: readonly GuestStore[] = ["opfs", "indexeddb"];

/** What is known of an overlay before its base is open. */
interface Kept {
  store: GuestStore;
  isWhole: boolean;
  version: ContentVersion | undefined;
}

/** One opening. */
class Opening {
  readonly #engine: Engine;
  readonly #options: OpenGuestDiskOptions;
  readonly #page: string | undefined;
  /** Why a store is not to be had. */
  readonly #refusals = new Map<GuestStore, string>();
  #name: string;

  constructor(engine: Engine, options: OpenGuestDiskOptions) {
    this.#engine = engine;
    this.#options = options;
    this.#page = engine.graph.host.http?.base;
    this.#name = diskName(options, this.#page);
  }

  async overlay(): Promise<OpenedOverlay> {
    if (this.#options.fresh) await this.#discard();
    const kept = await this.#find();
    if (!kept) return this.#make();
    if (kept.isWhole) return this.#open(kept, { base: undefined, isNew: false });
    try {
      const base = await this.#reopenBase(kept);
      return await this.#open(kept, { base, isNew: false });
    } catch (error) {
      if (errnoOf(error) !== "ESTALE") throw error;
      return this.#otherVersion(error);
    }
  }

  /** What an earlier visit left, in the first store that has it. */
  async #find(): Promise<Kept | undefined> {
    for (const store of this.#stores()) {
      const file = overlayFile(store, this.#name);
      try {
        const node = await openNodeIn(this.#engine, this.#spec({ file, backing: null, "read-only": true }));
        try {
          const info = await node.info();
          const version = node.blockNode.driver.headerBacking?.madeOver?.();
          return { store, version, isWhole: info["backing-filename"] === undefined };
        } finally {
          await node.close();
        }
      } catch (error) {
        this.#passOver(store, error, ["ENOENT"]);
      }
    }
    return undefined;
  }

  async #make(): Promise<OpenedOverlay> {
    const base = await this.#openBase(this.#options.size);
    try {
      const size = base.length;
      const { format = formatOf(this.#engine, "unclaimed") } = this.#options;
      for (const store of this.#stores()) {
        const file = overlayFile(store, this.#name);
        const backing = { "backing-file": this.#backingName(), "backing-fmt": format } as const;
        try {
          const spec = { driver: formatOf(this.#engine, "overlay"), file, size, ...backing };
          await createImageIn(this.#engine, spec as object as CreateImageSpec);
        } catch (error) {
          this.#passOver(store, error);
          continue;
        }
        return await this.#open({ store }, { base, isNew: true });
      }
      throw this.#noStore();
    } finally {
      await base.close();
    }
  }

  async #open(
    { store }: Pick<Kept, "store">,
    { base, isNew }: { base: Node | undefined; isNew: boolean },
  ): Promise<OpenedOverlay> {
    const file = overlayFile(store, this.#name);
    try {
      const more = this.#options.whenChanged === "accept" ? { "changed-backing": "accept" as const } : {};
      const spec = { "node-name": `${this.#device}-disk`, file, backing: base?.name ?? null, ...more };
      const node = await openNodeIn(this.#engine, this.#spec(spec));
      const fallback = store === "opfs" ? undefined : this.#refusals.get("opfs");
      return { node, file, store, fallback, isNew, isWhole: base === undefined };
    } finally {
      await base?.close();
    }
  }

  /** The base of an overlay that is there. A server that can't be reached is waited for by who reads what is missing. */
  async #reopenBase({ version }: Kept): Promise<Node> {
    try {
      return await this.#openBase(this.#options.size);
    } catch (error) {
      if (errnoOf(error) !== "EIO" || !version) throw error;
      return this.#openBase(version.size);
    }
  }

  #openBase(size: number | undefined): Promise<Node> {
    const place = { nodeName: `${this.#device}-base`, page: this.#page, size };
    return openNodeIn(this.#engine, baseSpec(this.#options, place));
  }

  /** The image on the server is not the one that the overlay was made over. */
  async #otherVersion(error: unknown): Promise<OpenedOverlay> {
    const { whenChanged = "refuse" } = this.#options;
    if (whenChanged === "discard") {
      await this.#discard();
      return this.#make();
    }
    if (whenChanged === "keep-both") return this.#besides();
    const ways =
      "open it with whenChanged: 'discard' for a new disk, 'keep-both' for another one beside it, or 'accept'";
    const message = `The image on the server has changed since the disk '${this.#name}' was made: ${ways}. (${messageOf(error)})`;
    throw new BlockError({ code: "ESTALE", op: "open", message, cause: error });
  }

  /** A disk whose name has the version's mark: an earlier visit's, or a new one. */
  async #besides(): Promise<OpenedOverlay> {
    const base = await this.#openBase(this.#options.size);
    const {
      etag,
      "last-modified": date,
      size,
    } = base.blockNode.driver.versions?.version() ?? { size: base.length };
    await base.close();
    this.#name += `@${(etag ?? date ?? String(size)).replaceAll(/[^\w.-]+/g, "")}`;
    const kept = await this.#find();
    if (!kept) return this.#make();
    return this.#open(kept, { base: kept.isWhole ? undefined : await this.#reopenBase(kept), isNew: false });
  }

  async #discard(): Promise<void> {
    for (const store of this.#stores()) {
      try {
        await removeImageIn(this.#engine, overlayFile(store, this.#name));
      } catch (error) {
        this.#passOver(store, error, ["ENOENT"]);
      }
    }
  }

  /** The stores that may be used, the best first. */
  #stores(): GuestStore[] {
    const { store = "auto" } = this.#options;
    const known = new Set([...this.#engine.graph.drivers].map(({ name }) => name));
    return STORES.filter((one) => (store === "auto" || one === store) && known.has(one));
  }

  /** Goes on to the next store after an error that says that this one is not to be had (or holds nothing); throws others. */
  #passOver(store: GuestStore, error: unknown, alsoOver: readonly string[] = []): void {
    const code = errnoOf(error);
    if (code === "ENOTSUP") this.#refusals.set(store, messageOf(error));
    else if (code === "EAGAIN") throw this.#inUse(error);
    else if (!alsoOver.includes(code)) throw error;
  }

  #inUse(cause: unknown): BlockError {
    const message = `The disk '${this.#name}' is open in another tab or window of this browser: close it there, or give this one another name`;
    return new BlockError({ code: "EAGAIN", op: "open", message, cause });
  }

  #noStore(): BlockError {
    const why = [...this.#refusals].map(([store, reason]) => `${store}: ${reason}`).join("; ");
    const message = `This browser keeps no disks here (${why || "the engine has neither opfs nor indexeddb"})`;
    return blockError("ENOTSUP", "open", message);
  }

  /** What the overlay's header names: for other programs, and so that what is whole shows. A query may hold a secret. */
  #backingName(): string {
    const { origin, pathname } = new URL(this.#options.url, this.#page);
    return `${origin}${pathname}`;
  }

  /** A description of the overlay. */
  #spec(options: object): OpenSpec {
    return { driver: formatOf(this.#engine, "overlay"), ...options } as OpenSpec;
  }

  get #device(): string {
    return this.#options.device ?? "hda";
  }
}

/** The engine's format of that kind. */
function formatOf({ graph }: Engine, kind: DriverType["isDefault"]): string {
  const found = [...graph.drivers].find(({ isDefault }) => isDefault === kind);
  if (found) return found.name;
  throw blockError("ENOTSUP", "open", `the engine has no driver of images (${kind})`);
}

/**
 * Opens a disk of a guest in this thread's engine: what openGuestDisk() does in the worker. ENOTSUP where no store is to be
 * had, EAGAIN where the disk is open elsewhere, ESTALE where the image has changed (see `whenChanged`), else the errors of
 * the image on the server.
 */
export async function openGuestDiskIn(
  engine: Engine,
  options: OpenGuestDiskOptions,
): Promise<OpenedGuestDisk> {
  checkOpenGuestDisk(options);
  const overlay = await new Opening(engine, options).overlay();
  try {
    return await OpenedGuestDisk.start(overlay, options);
  } catch (error) {
    await overlay.node.close().catch(() => undefined);
    throw error;
  }
}
