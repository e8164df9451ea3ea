/**
 * A guest's disk with all that keeps it going: its device, the filling, what lets both go on after an error, and the status
 * in words.
 *
 * Invariants: the overlay's handle outlives the device and the filling; close() ends all of it, once.
 */
import { closing } from "../../base/lease.ts";
import type { GuestDisk } from "../../machine/guest-disk.ts";
import type { GuestFailure } from "../../machine/machine.ts";
import { autoCont } from "../auto-resume.ts";
import { plugGuest } from "../guest.ts";
import type { Node } from "../node.ts";
import { type NewFile, removeImageIn } from "../open.ts";
import { Fill } from "./fill.ts";
import type { GuestStore, OpenGuestDiskOptions } from "./options.ts";
import { type GuestDiskStatus, statusOf } from "./status.ts";

const PROBE_MS = 5000;

/** An overlay that is open. */
export interface OpenedOverlay {
  node: Node;
  file: NewFile;
  store: GuestStore;
  fallback: string | undefined;
  isNew: boolean;
  /** Nothing is missing: the overlay needs its base no more. */
  isWhole: boolean;
}

/** See the file's head. Made by openGuestDiskIn(). */
export class OpenedGuestDisk {
  /** For toV86Disk(). */
  readonly disk: GuestDisk;
  readonly #overlay: OpenedOverlay;
  readonly #options: OpenGuestDiskOptions;
  readonly #watchers = new Set<(status: GuestDiskStatus) => void>();
  readonly #over = new AbortController();
  #guestFailure: GuestFailure | undefined;
  #fill: Fill | undefined;
  #closed: Promise<void> | undefined;

  private constructor(disk: GuestDisk, overlay: OpenedOverlay, options: OpenGuestDiskOptions) {
    this.disk = disk;
    this.#overlay = overlay;
    this.#options = options;
  }

  /** Plugs the device and begins the filling. The overlay is closed if that fails. */
  static async start(overlay: OpenedOverlay, options: OpenGuestDiskOptions): Promise<OpenedGuestDisk> {
    const { node } = overlay;
    const { device, rerror, werror, writeCache, deadlineMs, probeMs } = options;
    const disk = await plugGuest(node, {
      ...(device === undefined ? {} : { device }),
      ...(rerror === undefined ? {} : { rerror }),
      ...(werror === undefined ? {} : { werror }),
      ...(writeCache === undefined ? {} : { writeCache }),
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
    });
    const opened = new OpenedGuestDisk(disk, overlay, options);
    const { signal } = opened.#over;
    autoCont(node.engine, { signal, ...(probeMs === undefined ? {} : { probeMs }) });
    const unfollow = disk.watchFailures?.((failure) => {
      opened.#guestFailure = failure;
      opened.#tell();
    });
    const unwatch = disk.machine.watch((running) => {
      if (running) opened.#guestFailure = undefined;
      opened.#tell();
    });
    signal.addEventListener("abort", () => {
      unfollow?.();
      unwatch();
    });
    if (overlay.isWhole || options.fill === false) return opened;
    try {
      opened.#fill = await Fill.start(node, options, () => opened.#tell());
    } catch (error) {
      opened.#over.abort();
      await disk.close();
      throw error;
    }
    return opened;
  }

  /** Name of the disk's node. */
  get nodeName(): string {
    return this.#overlay.node.name;
  }

  get status(): GuestDiskStatus {
    const { store, fallback, isNew, isWhole } = this.#overlay;
    const { length, machine } = this.disk;
    const fill = this.#fill?.state ?? (isWhole ? "done" : "off");
    const stopped = this.#guestFailure ? "waiting" : "paused";
    return statusOf({
      guest: machine.isRunning ? "running" : stopped,
      fill,
      hereBytes: fill === "done" ? length : Math.min(length, this.#fill?.doneBytes ?? 0),
      length,
      store,
      fallback,
      isNew,
      guestCause: machine.isRunning ? undefined : this.#guestFailure,
      fillCause: this.#fill?.cause,
      probeMs: this.#options.probeMs ?? PROBE_MS,
    });
  }

  /** Calls `listener` with each new status until the returned function is called. */
  watch(listener: (status: GuestDiskStatus) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** Pauses the filling until resumeFill(). */
  pauseFill(): void {
    this.#fill?.pause();
  }

  /** Lets the filling go on, also after an error. */
  resumeFill(): void {
    this.#fill?.resume();
  }

  /** Ends the filling, takes the device out, closes the images. Rejects with a failed flush. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** Closes it and removes what the browser keeps of it. */
  async remove(): Promise<void> {
    await this.close();
    await removeImageIn(this.#overlay.node.engine, this.#overlay.file);
  }

  #close(): Promise<void> {
    this.#over.abort();
    return closing(
      async () => this.#fill?.stop(),
      () => this.disk.close(),
      () => this.#overlay.node.close(),
    );
  }

  #tell(): void {
    if (this.#closed) return;
    const { status } = this;
    for (const watcher of this.#watchers) watcher(status);
  }
}
