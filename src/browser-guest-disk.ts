/**
 * openGuestDisk() for pages: the disk in a worker of its own, the emulator's side of it here. A file of its own, since the
 * URL of the worker's script is relative to the entries that have it.
 *
 * Invariants: a disk is open once in a page: who opens it again (React's StrictMode mounts twice) gets the same one, and it is
 * closed with the last of them; only one emulator uses it at a time.
 */
import { diskName, checkOpenGuestDisk, type OpenGuestDiskOptions } from "./api/guest-disk/options.ts";
import type { GuestDiskStatus } from "./api/guest-disk/status.ts";
import { toV86Disk } from "./api/v86.ts";
import type { RemoteStreamOptions } from "./api/worker/calls.ts";
import { connectCalls, type WorkerEngine } from "./api/worker/worker-engine.ts";
import type { RemoteOpenedDisk } from "./api/worker/remote-opened-disk.ts";
import { BlockError } from "./base/errors.ts";
import { reachWorker } from "./browser-reach.ts";
import type { GuestDisk } from "./machine/guest-disk.ts";
import type { V86Disk } from "./machine/v86/disk.ts";
import type { V86Emulator } from "./machine/v86/emulator.ts";
import type { GenerationKeeper } from "./machine/v86/state.ts";

/** Options of openGuestDisk(). */
export interface PageDiskOptions extends OpenGuestDiskOptions {
  /** An engine that connectWorker() has reached, which stays the caller's. Default: a worker of the disk's own. */
  engine?: WorkerEngine;
  /**
   * Starts that worker; for bundlers and content security policies that want the script's URL spelt out. The script is
   * `blockwright/guest-worker`, or one that imports it. Default: guest-worker.js beside this entry.
   */
  createWorker?: () => Worker;
  /** Told each new status, the first one before openGuestDisk() has resolved. */
  onStatus?: (status: GuestDiskStatus) => void;
  /** Keeps the generation of the content over reloads; see toV86Disk(). */
  generation?: GenerationKeeper;
  /** Ends the opening. */
  signal?: AbortSignal;
}

function startWorker(): Worker {
  return new Worker(new URL("./guest-worker.js", import.meta.url), { type: "module", name: "blockwright" });
}

/** A disk that is open in this page, whoever has asked for it. */
interface Shared {
  opened: Promise<{ disk: RemoteOpenedDisk; engine: WorkerEngine; ownsEngine: boolean }>;
  users: number;
  /** Whose emulator uses it. */
  inUse: PageGuestDisk | undefined;
}

/** By the engine that has them: those without one share a name space. */
const open = new Map<WorkerEngine | undefined, Map<string, Shared>>();

/** A guest's disk in a page. Made by openGuestDisk(). */
export class PageGuestDisk {
  /** The disk for v86: `new V86({ hda: disk.hda })`, then attach(). */
  readonly hda: V86Disk;
  /** Name of the disk's node, for QMP where the engine has it. */
  readonly nodeName: string;
  /** The engine that has it. */
  readonly engine: WorkerEngine;
  readonly #opened: RemoteOpenedDisk;
  readonly #leave: (how: "close" | "remove", by: PageGuestDisk) => Promise<void>;
  readonly #take: (by: PageGuestDisk) => void;
  #closed: Promise<void> | undefined;

  /** @internal */
  constructor(init: {
    hda: V86Disk;
    engine: WorkerEngine;
    opened: RemoteOpenedDisk;
    leave: (how: "close" | "remove", by: PageGuestDisk) => Promise<void>;
    take: (by: PageGuestDisk) => void;
  }) {
    this.hda = init.hda;
    this.engine = init.engine;
    this.nodeName = init.opened.nodeName;
    this.#opened = init.opened;
    this.#leave = init.leave;
    this.#take = init.take;
  }

  /** Ties the disk to its emulator, right after `new V86(…)`. EBUSY where another emulator of this page has it. */
  attach(emulator: V86Emulator): void {
    this.#take(this);
    this.hda.attach(emulator);
  }

  /** How it stands now. */
  get status(): GuestDiskStatus {
    return this.#opened.status;
  }

  /** Calls `listener` with each new status until the returned function is called. */
  watch(listener: (status: GuestDiskStatus) => void): () => void {
    return this.#opened.watch(listener);
  }

  /** Pauses the filling until resumeFill(). */
  pauseFill(): Promise<void> {
    return this.#opened.pauseFill();
  }

  /** Lets the filling go on, also after an error. */
  resumeFill(): Promise<void> {
    return this.#opened.resumeFill();
  }

  /** The disk as a file, as it is at this moment; the options are those of imageStream(). */
  async export(options: RemoteStreamOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const disk = await this.engine.disk(this.nodeName);
    return disk.imageStream(options);
  }

  /** Closes it; with the last user its worker ends. Rejects with a failed flush. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#end("close");
    return this.#closed;
  }

  /** Closes it and throws away what this browser keeps of it. EBUSY while somebody else in this page has it. */
  remove(): Promise<void> {
    this.#closed ??= this.#end("remove");
    return this.#closed;
  }

  async #end(how: "close" | "remove"): Promise<void> {
    try {
      await this.hda.close();
    } finally {
      await this.#leave(how, this);
    }
  }
}

/**
 * A guest's disk over an image on a server, for v86: it starts at once, what the guest writes is kept in this browser, and the
 * rest of the image comes in the background. Opened again in the same page it is the same disk. Errors: EAGAIN where another tab
 * has it, ESTALE where the image has changed since (see `whenChanged`), ENOTSUP where the browser keeps no disks, else those
 * of the image on the server.
 */
export async function openGuestDisk(options: PageDiskOptions): Promise<PageGuestDisk> {
  const { engine: given, createWorker, onStatus, generation, signal, ...plain } = options;
  checkOpenGuestDisk(plain);
  const url = new URL(plain.url, location.href).href;
  const name = diskName(plain, location.href);
  const disks = open.get(given) ?? new Map<string, Shared>();
  open.set(given, disks);
  let shared = disks.get(name);
  if (!shared) {
    const connect = { createWorker: createWorker ?? startWorker, ...(signal ? { signal } : {}) };
    const opened = openIn(given, { ...plain, url, name }, connect);
    shared = { opened, users: 0, inUse: undefined };
    disks.set(name, shared);
    opened.catch(() => disks.delete(name));
  }
  return join(shared, { onStatus, generation, name, forget: () => disks.delete(name) });
}

async function openIn(
  given: WorkerEngine | undefined,
  plain: OpenGuestDiskOptions,
  connect: { createWorker: () => Worker; signal?: AbortSignal },
): Promise<{ disk: RemoteOpenedDisk; engine: WorkerEngine; ownsEngine: boolean }> {
  const engine = given ?? (await reachWorker(undefined, connect, connectCalls));
  const { signal } = connect;
  try {
    const disk = await engine.openGuestDisk(plain, signal ? { signal } : {});
    return { disk, engine, ownsEngine: !given };
  } catch (error) {
    if (!given) await engine.close().catch(() => undefined);
    throw error;
  }
}

/** One more user of a disk. */
async function join(
  shared: Shared,
  how: {
    onStatus: ((status: GuestDiskStatus) => void) | undefined;
    generation: GenerationKeeper | undefined;
    name: string;
    forget: () => void;
  },
): Promise<PageGuestDisk> {
  shared.users += 1;
  const { onStatus, generation, name, forget } = how;
  let unwatch: (() => void) | undefined;
  const leave = async (end: "close" | "remove", by?: PageGuestDisk): Promise<void> => {
    unwatch?.();
    if (shared.inUse === by) shared.inUse = undefined;
    shared.users -= 1;
    if (shared.users > 0) {
      if (end === "remove") throw busy(name);
      return;
    }
    forget();
    const { disk, engine, ownsEngine } = await shared.opened;
    try {
      await disk[end]();
    } finally {
      if (ownsEngine) await engine.close();
    }
  };
  try {
    const { disk: opened, engine } = await shared.opened;
    if (onStatus) {
      unwatch = opened.watch(onStatus);
      onStatus(opened.status);
    }
    const disk = keptOpen(opened.disk);
    const hda = await toV86Disk(disk, { identity: name, ...(generation ? { generation } : {}) });
    const take = (by: PageGuestDisk): void => {
      if (shared.inUse && shared.inUse !== by) throw busy(name);
      shared.inUse = by;
    };
    return new PageGuestDisk({ hda, engine, opened, leave, take });
  } catch (error) {
    await leave("close").catch(() => undefined);
    throw error;
  }
}

/** A disk that its emulator's adapter does not close: others may have it. */
function keptOpen(disk: GuestDisk): GuestDisk {
  const { length, readOnly, session, machine } = disk;
  return {
    length,
    readOnly,
    session,
    machine,
    get lastFailure() {
      return disk.lastFailure;
    },
    watchFailures: (listener) => disk.watchFailures?.(listener) ?? (() => undefined),
    read: (offset, bytes, options) => disk.read(offset, bytes, options),
    write: (offset, data) => disk.write(offset, data),
    publish: (code, action) => disk.publish?.(code, action),
    flush: () => disk.flush(),
    close: () => Promise.resolve(),
  };
}

function busy(name: string): BlockError {
  const message = `The disk '${name}' is in use by another emulator of this page: close it there first`;
  return new BlockError({ code: "EBUSY", op: "attach", message });
}
