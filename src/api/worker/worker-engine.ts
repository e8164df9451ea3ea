/**
 * An engine in another thread, seen from the other end of a port: its disks, new images, its run state, its end. QMP comes
 * with RemoteEngine (remote-engine.ts): a page that only opens a guest's disk does without.
 *
 * Invariant: when the other end goes, everything that is pending here rejects with EIO, once and for all.
 */
import { BlockError } from "../../base/errors.ts";
import { KiB, limits } from "../../base/limits.ts";
import { abortable } from "../../base/signals.ts";
import type { CallOptions } from "../node.ts";
import { type CreateImageOptions, type CreateImageSpec, type NewFile, checkCreateOptions } from "../open.ts";
import type { OpenSpec } from "../specs.ts";
import type { GuestDisk } from "../../machine/guest-disk.ts";
import { type GuestDiskOptions, guestOptions } from "../guest.ts";
import type { OpenGuestDiskOptions } from "../guest-disk/options.ts";
import { callOptions, optionsOf } from "../options.ts";
import {
  type DiskCalls,
  type DiskFacts,
  type EngineCalls,
  type GuestCalls,
  type GuestControlCalls,
  checkRange,
  makeSlots,
} from "./calls.ts";
import { RemoteGuestDisk, RemoteMachine, type RunControl } from "./guest.ts";
import { follow } from "./feed.ts";
import { PortCaller, type PortLike } from "./port.ts";
import { RemoteOpenedDisk } from "./remote-opened-disk.ts";
import { RemoteDisk, type RemoteDiskOptions } from "./remote-disk.ts";

const MAX_IN_FLIGHT = 64;

const checkDisk = /* @__PURE__ */ optionsOf<RemoteDiskOptions & CallOptions>({
  ...callOptions,
  maxInFlight: "Length",
  pieceBytes: "Length",
  shared: "bool",
});
const checkGuest = /* @__PURE__ */ optionsOf<GuestDiskOptions & CallOptions>({
  ...callOptions,
  ...guestOptions,
});
const checkResume = /* @__PURE__ */ optionsOf<{ job?: string; probeMs?: number } & CallOptions>({
  ...callOptions,
  job: "str",
  probeMs: "number",
});

/** An engine in a worker, as far as it needs no QMP. Made by connectCalls(). */
export class WorkerEngine {
  readonly #caller: PortCaller<EngineCalls>;
  readonly #callers = new Set<{ end(reason: Error): void }>();
  #machine: Promise<RemoteMachine> | undefined;
  #closed: Promise<void> | undefined;

  /** @internal */
  constructor(caller: PortCaller<EngineCalls>) {
    this.#caller = caller;
    void caller.ended.then((reason) => {
      for (const one of this.#callers) one.end(reason);
    });
  }

  /** Resolves with the reason when the engine can't be reached any more. */
  get ended(): Promise<Error> {
    return this.#caller.ended;
  }

  /** Opens a node as openNode() does; File and Blob members cross. It is closed with the disk. */
  open(spec: OpenSpec, options: RemoteDiskOptions & CallOptions = {}): Promise<RemoteDisk> {
    return this.#disk("open", { spec }, options);
  }

  /** A handle on a node that is there, by its name; several may read at once. EIO-class errors cross with their errno. */
  disk(node: string, options: RemoteDiskOptions & CallOptions = {}): Promise<RemoteDisk> {
    return this.#disk("disk", { node }, options);
  }

  /**
   * A node as the disk of a guest, for toV86Disk(): policies and deadline hold in the worker, and STOP and RESUME reach the
   * emulator. Throws as plugging a device does.
   */
  async guestDisk(node: string, options: GuestDiskOptions & CallOptions = {}): Promise<GuestDisk> {
    checkGuest(options);
    const { signal, ...guest } = options;
    const machine = await this.#followMachine();
    const { port1, port2 } = new MessageChannel();
    const caller = this.#own(new PortCaller<GuestCalls>(port1));
    try {
      const args = { node, options: guest, port: port2 };
      const asked = this.#caller.call("guest", args, { signal, transfer: [port2] });
      return new RemoteGuestDisk(caller, machine, await abortable(asked, signal));
    } catch (error) {
      caller.end(error as Error);
      throw error;
    }
  }

  /**
   * A guest's disk over an image on a server, kept in this browser: what openGuestDiskIn() does, in the worker. Made for
   * openGuestDisk(), which adds the emulator's side.
   */
  async openGuestDisk(
    options: OpenGuestDiskOptions,
    { signal }: CallOptions = {},
  ): Promise<RemoteOpenedDisk> {
    const machine = await this.#followMachine();
    const [data, control] = [new MessageChannel(), new MessageChannel()];
    const guest = this.#own(new PortCaller<GuestCalls>(data.port1));
    const caller = this.#own(new PortCaller<GuestControlCalls>(control.port1));
    try {
      const args = { options, guest: data.port2, control: control.port2 };
      const transfer = [data.port2, control.port2];
      const asked = this.#caller.call("openGuestDisk", args, { signal, transfer });
      const { node, ...facts } = await abortable(asked, signal);
      return await RemoteOpenedDisk.follow({
        caller,
        disk: new RemoteGuestDisk(guest, machine, facts),
        nodeName: node,
      });
    } catch (error) {
      guest.end(error as Error);
      caller.end(error as Error);
      throw error;
    }
  }

  /** Makes an image; see createImage(). */
  async createImage(spec: CreateImageSpec, options: CreateImageOptions = {}): Promise<void> {
    checkCreateOptions(options);
    const { signal, overwrite = false } = options;
    await abortable(this.#caller.call("createImage", { spec, overwrite }, { signal }), signal);
  }

  /** Removes an image's file; see removeImage(). */
  async removeImage(file: NewFile): Promise<void> {
    await this.#caller.call("removeImage", { file });
  }

  /**
   * Resumes a job whenever an error has paused it, or without a job the machine, as soon as a probe of what failed
   * succeeds; see autoResume() and autoCont(). Resolves when the job is over or `signal` aborts. EINVAL for a bad
   * `probeMs`, CommandError without such a job.
   */
  async autoResume(options: { job?: string; probeMs?: number } & CallOptions = {}): Promise<void> {
    checkResume(options);
    const { job, probeMs, signal } = options;
    await this.#caller.call("autoResume", { job, probeMs }, { signal });
  }

  /** Makes durable what was written through the disks of this connection. */
  async flush(): Promise<void> {
    await this.#caller.call("flush", {});
  }

  /** Cancels the jobs, closes all images and the connection; rejects with the first failed flush. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** Gives the engine up, as when its thread has died: all that is pending rejects with `reason`. */
  fail(reason: Error): void {
    this.#caller.end(reason);
  }

  async #close(): Promise<void> {
    try {
      if (!this.#caller.failure) await this.#caller.call("close", {});
    } finally {
      this.fail(new BlockError({ code: "ENOMEDIUM", op: "remote", message: "the engine is closed" }));
    }
  }

  /** How the machine's run state is followed: by calls of the port, unless there is QMP. */
  protected runControl(): RunControl {
    const caller = this.#caller;
    let isFirst = true;
    let isKnown!: (running: boolean) => void;
    const first = new Promise<boolean>((resolve) => {
      isKnown = resolve;
    });
    return {
      follow: (each) =>
        void follow<boolean>(
          (seen) => caller.call("runState", { seen }),
          (running) => {
            if (!isFirst) each(running);
            isFirst = false;
            isKnown(running);
          },
        ),
      running: () => Promise.race([first, this.ended.then((reason) => Promise.reject(reason))]),
      stop: () => caller.call("stop", {}),
      cont: () => caller.call("cont", {}),
    };
  }

  #followMachine(): Promise<RemoteMachine> {
    this.#machine ??= RemoteMachine.follow(this.runControl(), this.ended);
    return this.#machine;
  }

  /** Ends with the engine. */
  #own<T extends { end(reason: Error): void; ended: Promise<Error> }>(caller: T): T {
    this.#callers.add(caller);
    void caller.ended.then(() => this.#callers.delete(caller));
    return caller;
  }

  async #disk(
    method: "open" | "disk",
    what: { spec: OpenSpec } | { node: string },
    options: RemoteDiskOptions & CallOptions,
  ): Promise<RemoteDisk> {
    checkDisk(options);
    const { maxInFlight = 16, pieceBytes = 256 * KiB, signal } = options;
    checkRange("maxInFlight", maxInFlight, { least: 1, most: MAX_IN_FLIGHT });
    checkRange("pieceBytes", pieceBytes, { least: 512, most: limits.maxRemoteBytes });
    // A page that is not cross-origin isolated has none: it copies.
    const canShare = options.shared && typeof SharedArrayBuffer === "function";
    const shared = canShare ? makeSlots(maxInFlight, pieceBytes) : undefined;
    const { port1, port2 } = new MessageChannel();
    const caller = this.#own(new PortCaller<DiskCalls>(port1));
    try {
      const port: PortLike = port2;
      const args = { ...what, port, shared } as EngineCalls["open"]["args"] & EngineCalls["disk"]["args"];
      const asked = this.#caller.call(method, args, { signal, transfer: [port2] });
      const facts: DiskFacts = await abortable(asked, signal);
      return new RemoteDisk({ caller, facts, shared, options: { maxInFlight, pieceBytes } });
    } catch (error) {
      caller.end(error as Error);
      throw error;
    }
  }
}

/** Reaches the engine that serveCalls() serves at the other end of `port`, once it answers. */
export async function connectCalls(port: PortLike, { signal }: CallOptions = {}): Promise<WorkerEngine> {
  const caller = new PortCaller<EngineCalls>(port);
  try {
    await abortable(caller.call("flush", {}, { signal }), signal);
    return new WorkerEngine(caller);
  } catch (error) {
    caller.end(error as Error);
    throw error;
  }
}
