/**
 * A disk of openGuestDisk() whose engine is in a worker, seen from the page: the guest's side of it, and its status as the
 * worker tells it.
 */
import { blockError } from "../../base/errors.ts";
import type { GuestDisk } from "../../machine/guest-disk.ts";
import type { GuestDiskStatus } from "../guest-disk/status.ts";
import { lostStatus } from "../guest-disk/status.ts";
import type { GuestControlCalls } from "./calls.ts";
import { follow } from "./feed.ts";
import type { PortCaller } from "./port.ts";

interface Init {
  caller: PortCaller<GuestControlCalls>;
  disk: GuestDisk;
  nodeName: string;
}

/** See the file's head. Made by WorkerEngine.openGuestDisk(). */
export class RemoteOpenedDisk {
  /** For toV86Disk(). */
  readonly disk: GuestDisk;
  /** Name of the disk's node. */
  readonly nodeName: string;
  readonly #caller: PortCaller<GuestControlCalls>;
  readonly #watchers = new Set<(status: GuestDiskStatus) => void>();
  #status!: GuestDiskStatus;
  #closed: Promise<void> | undefined;

  private constructor({ caller, disk, nodeName }: Init) {
    this.#caller = caller;
    this.disk = disk;
    this.nodeName = nodeName;
  }

  /** Waits for the first status. */
  static async follow(init: Init): Promise<RemoteOpenedDisk> {
    const opened = new RemoteOpenedDisk(init);
    const { caller } = init;
    await new Promise<void>((resolve, reject) => {
      const each = (status: GuestDiskStatus): void => {
        opened.#tell(status);
        resolve();
      };
      void follow<GuestDiskStatus>((seen) => caller.call("status", { seen }), each);
      void caller.ended.then((reason) => {
        reject(reason);
        if (!opened.#closed) opened.#tell(lostStatus(opened.#status));
      });
    });
    return opened;
  }

  get status(): GuestDiskStatus {
    return this.#status;
  }

  /** Calls `listener` with each new status until the returned function is called. */
  watch(listener: (status: GuestDiskStatus) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** Pauses the filling until resumeFill(). */
  pauseFill(): Promise<void> {
    return this.#caller.call("pauseFill", {});
  }

  /** Lets the filling go on, also after an error. */
  resumeFill(): Promise<void> {
    return this.#caller.call("resumeFill", {});
  }

  /** Ends the filling, takes the device out, closes the images. Rejects with a failed flush. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#end("close");
    return this.#closed;
  }

  /** Closes it and removes what the browser keeps of it. */
  remove(): Promise<void> {
    this.#closed = this.#end("remove");
    return this.#closed;
  }

  async #end(how: "close" | "remove"): Promise<void> {
    try {
      if (!this.#caller.failure) await this.#caller.call(how, {});
      await this.disk.close();
    } finally {
      this.#caller.end(blockError("ENOMEDIUM", "remote", "the guest's disk is closed"));
    }
  }

  #tell(status: GuestDiskStatus): void {
    this.#status = status;
    for (const watcher of this.#watchers) watcher(status);
  }
}
