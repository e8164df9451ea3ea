/**
 * The page's engine: the disk as a qcow2 overlay in the origin's private file system over an HTTP base, and what the page does with
 * it. The base's size and version are remembered, so that a reload works while the server is away, and never mixes two
 * versions.
 */
import { type OnError, type RemoteDisk, type RemoteEngine, connectWorker, errnoOf } from "../browser.ts";
import { overlayFormat } from "../drivers/format/defaults.ts";
import type { RoomMessage } from "./worker.ts";

/** What an error does; the page offers no `auto`. */
export type Policy = Exclude<OnError, "auto">;

/** Name of the disk's node, and of the job that fills it. */
export const DISK = "disk";
/** See DISK. */
export const FILL = "fill";

const OVERLAY = "blockwright-demo/overlay.qcow2";
/** A node on top of the disk, and its image. */
const LAYER = "layer";
const LAYER_FILE = "blockwright-demo/layer.qcow2";
const MEMORY = "blockwright-demo-base";

interface Base {
  size: number;
  /** Where the server has a strong one. */
  etag?: string;
}

/** What is known of the base. Throws when the server is away at the very first visit. */
async function findBase(url: string): Promise<Base> {
  const kept = localStorage.getItem(MEMORY);
  if (kept) return JSON.parse(kept) as Base;
  const answer = await fetch(url, { method: "HEAD", cache: "no-store" });
  const etag = answer.headers.get("etag") ?? "W/";
  const size = Number(answer.headers.get("content-length"));
  const base = { size, ...(etag.startsWith("W/") ? {} : { etag }) };
  localStorage.setItem(MEMORY, JSON.stringify(base));
  return base;
}

/** An open disk. */
export class Session {
  readonly engine: RemoteEngine;
  /** What the guest has: the layer, or the disk. */
  #top: RemoteDisk;
  #hasLayer: boolean;
  readonly #worker: Worker;
  #isCommitting = false;

  private constructor(parts: { engine: RemoteEngine; top: RemoteDisk; hasLayer: boolean; worker: Worker }) {
    this.engine = parts.engine;
    this.#top = parts.top;
    this.#hasLayer = parts.hasLayer;
    this.#worker = parts.worker;
  }

  get disk(): RemoteDisk {
    return this.#top;
  }

  /** Whether there is a layer on top of the disk. */
  get hasLayer(): boolean {
    return this.#hasLayer;
  }

  /** A commit moves what the map tells apart by depth, and brings nothing from the server: the map stays as it was. */
  get isCommitting(): boolean {
    return this.#isCommitting;
  }

  /** The node that the guest has. */
  get topNode(): string {
    return this.#hasLayer ? LAYER : DISK;
  }

  /** Whether a range of the map is still on the server. */
  isAbsent({ depth, zero }: { depth: number; zero: boolean }): boolean {
    return !zero && depth > (this.#hasLayer ? 1 : 0);
  }

  /** Starts the worker and opens the disk; makes its overlay at the first visit. */
  static async open(): Promise<Session> {
    const url = new URL("disk.img", document.baseURI).href;
    const worker = new Worker(new URL("built/worker.js", document.baseURI), { type: "module" });
    const engine = await connectWorker(worker);
    try {
      const facts = await findBase(url);
      const { size } = facts;
      const base = { driver: "http", url, ...facts, timeout: 2, deadline: 4, retries: 1 } as const;
      await engine.qmp.execute("blockdev-add", { ...base, "node-name": "base", "read-only": true });
      const disk = await openOverlay(engine, size);
      const layer = await openLayer(engine);
      return new Session({ engine, top: layer ?? disk, hasLayer: layer !== undefined, worker });
    } catch (error) {
      engine.fail(error as Error);
      worker.terminate();
      throw error;
    }
  }

  /** Whether the disk still needs its base. */
  async isComplete(): Promise<boolean> {
    for await (const range of this.disk.map()) if (this.isAbsent(range)) return false;
    return true;
  }

  /** Starts the stream job. */
  async fill(onError: Policy, speed: number): Promise<void> {
    const names = { device: DISK, "job-id": FILL, "on-error": onError };
    await this.engine.qmp.execute("block-stream", { ...names, speed });
  }

  /** Starts a job that copies the disk into the node of the same name. */
  async copy(kind: "backup" | "mirror", onError: Policy, speed: number): Promise<void> {
    const policies = { "on-source-error": onError, "on-target-error": onError };
    const args = { device: this.topNode, target: kind, "job-id": kind, speed, ...policies };
    await this.engine.qmp.execute(`blockdev-${kind}`, { ...args, sync: "full" });
  }

  /** Starts the job that writes the layer down into the disk. */
  async commit(onError: Policy, speed: number): Promise<void> {
    this.#isCommitting = true;
    try {
      await this.engine.qmp.execute("block-commit", {
        device: LAYER,
        "base-node": DISK,
        "job-id": "commit",
        "on-error": onError,
        speed,
      });
    } catch (error) {
      this.#isCommitting = false;
      throw error;
    }
  }

  /** The commit has ended without having written everything: the layer stays. */
  keepLayer(): void {
    this.#isCommitting = false;
  }

  /** Puts an empty layer on top, under the running guest: what it writes from now on goes there. */
  async addLayer(): Promise<void> {
    const { qmp } = this.engine;
    const file = { driver: "opfs", filename: LAYER_FILE } as const;
    await this.engine.createImage(
      { driver: overlayFormat, file, size: this.disk.length },
      { overwrite: true },
    );
    await qmp.execute("blockdev-add", { driver: overlayFormat, "node-name": LAYER, file, backing: null });
    await qmp.execute("blockdev-snapshot", { node: DISK, overlay: LAYER });
    this.#hasLayer = true;
    this.#top = await this.engine.disk(LAYER);
  }

  /** The layer is committed: the guest has the disk again. */
  async dropLayer(): Promise<void> {
    this.#hasLayer = false;
    this.#top = await this.engine.disk(DISK);
    this.#isCommitting = false;
    // One that came with a reload belongs to its handle, and goes with it.
    await this.engine.qmp.execute("blockdev-del", { "node-name": LAYER }).catch(() => undefined);
    await this.engine.removeImage({ driver: "opfs", filename: LAYER_FILE });
  }

  /** Plays a full store, or ends that. */
  setFull(isFull: boolean): void {
    this.#worker.postMessage({ room: isFull ? "full" : "free" } satisfies RoomMessage);
  }

  /** Closes everything and forgets the overlay. */
  async forget(): Promise<void> {
    await this.engine.close();
    this.#worker.terminate();
    localStorage.removeItem(MEMORY);
    const root = await navigator.storage.getDirectory();
    // The worker's handles go a little after it.
    for (let left = 50; left > 0; left--) {
      try {
        return await root.removeEntry("blockwright-demo", { recursive: true });
      } catch (error) {
        if ((error as Error).name === "NotFoundError") return;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }
}

function specOf(name: string, filename: string, backing: string): object {
  const file = { driver: "demo-full-store", file: { driver: "opfs", filename } };
  return { driver: overlayFormat, "node-name": name, file, backing, discard: "unmap" };
}

/** The layer that an earlier visit has left on top. */
async function openLayer(engine: RemoteEngine): Promise<RemoteDisk | undefined> {
  try {
    return await engine.open(specOf(LAYER, LAYER_FILE, DISK) as never);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    return undefined;
  }
}

async function openOverlay(engine: RemoteEngine, size: number): Promise<RemoteDisk> {
  const store = { driver: "opfs", filename: OVERLAY } as const;
  // The page's own filter is not in the table of drivers that QMP knows.
  const open = (): Promise<RemoteDisk> => engine.open(specOf(DISK, OVERLAY, "base") as never);
  try {
    return await open();
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    await engine.createImage({ driver: overlayFormat, file: store, size });
    return open();
  }
}
