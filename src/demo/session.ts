/**
 * The page's engine: the disk as a qcow2 overlay in the origin's private file system over an HTTP base, and what the page does with
 * it. The base's size and version are remembered, so that a reload works while the server is away, and never mixes two
 * versions.
 */
import { type RemoteDisk, type RemoteEngine, connectWorker, errnoOf } from "../browser.ts";
import type { RoomMessage } from "./worker.ts";

/** Name of the disk's node, and of the job that fills it. */
export const DISK = "disk";
/** See DISK. */
export const FILL = "fill";

const OVERLAY = "blockwright-demo/overlay.qcow2";
const MEMORY = "blockwright-demo-base";

interface Base {
  size: number;
  etag: string;
}

/** What is known of the base. Throws when the server is away at the very first visit. */
async function findBase(url: string): Promise<Base> {
  const kept = localStorage.getItem(MEMORY);
  if (kept) return JSON.parse(kept) as Base;
  const answer = await fetch(url, { method: "HEAD", cache: "no-store" });
  const base = { size: Number(answer.headers.get("content-length")), etag: answer.headers.get("etag") ?? "" };
  localStorage.setItem(MEMORY, JSON.stringify(base));
  return base;
}

/** An open disk. */
export class Session {
  readonly engine: RemoteEngine;
  readonly disk: RemoteDisk;
  /** Where the base is. */
  readonly url: string;
  readonly #worker: Worker;

  private constructor(parts: { engine: RemoteEngine; disk: RemoteDisk; url: string; worker: Worker }) {
    this.engine = parts.engine;
    this.disk = parts.disk;
    this.url = parts.url;
    this.#worker = parts.worker;
  }

  /** Starts the worker and opens the disk; makes its overlay at the first visit. */
  static async open(): Promise<Session> {
    const url = new URL("/disk.img", location.href).href;
    const worker = new Worker("/built/worker.js", { type: "module" });
    const engine = await connectWorker(worker);
    try {
      const { size, etag } = await findBase(url);
      const base = { driver: "http", url, size, etag, timeout: 2, deadline: 4, retries: 1 } as const;
      await engine.qmp.execute("blockdev-add", { ...base, "node-name": "base", "read-only": true });
      return new Session({ engine, disk: await openOverlay(engine, size), url, worker });
    } catch (error) {
      engine.fail(error as Error);
      worker.terminate();
      throw error;
    }
  }

  /** Whether the disk still needs its base. */
  async isComplete(): Promise<boolean> {
    for await (const { depth, zero } of this.disk.map()) if (depth > 0 && !zero) return false;
    return true;
  }

  /** Starts the stream job. */
  async fill(onError: "report" | "ignore" | "stop" | "enospc", speed: number): Promise<void> {
    const names = { device: DISK, "job-id": FILL, "on-error": onError };
    await this.engine.qmp.execute("block-stream", { ...names, speed });
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

async function openOverlay(engine: RemoteEngine, size: number): Promise<RemoteDisk> {
  const store = { driver: "opfs", filename: OVERLAY } as const;
  const file = { driver: "demo-full-store", file: store };
  const spec = { driver: "qcow2", "node-name": DISK, file, backing: "base", discard: "unmap" };
  // The page's own filter is not in the table of drivers that QMP knows.
  const open = (): Promise<RemoteDisk> => engine.open(spec as never);
  try {
    return await open();
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    await engine.createImage({ driver: "qcow2", file: store, size });
    return open();
  }
}
