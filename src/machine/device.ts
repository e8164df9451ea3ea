/**
 * A guest device's disk: requests of the guest under rerror and werror. An error is ignored, reported to the guest, or
 * stops the machine and is tried again by `cont`; BLOCK_IO_ERROR says which, always.
 * Source: behaviour of QEMU 7.2's block backends and of its disk models.
 */
import { CommandError, errnoOf } from "../base/errors.ts";
import { strerror } from "../base/errno.ts";
import type { ByteRange } from "../base/ranges.ts";
import { BlockBackend, guestPermissions, readerPermissions } from "../block/backend.ts";
import type { BlockGraph } from "../block/graph.ts";
import type { BlockNode } from "../block/node.ts";
import { announceDevicePolicy } from "../job/device-policy.ts";
import { type IoStatus, type OnError, decideErrorAction, ioStatusFor } from "../job/error-policy.ts";
import type { Machine } from "./machine.ts";

/** Options of a device. */
export interface GuestDeviceOptions {
  machine: Machine;
  /** Name of the block backend; unique, may be empty. */
  name: string;
  node: BlockNode;
  /** On a failed read: report (default), ignore, stop. */
  rerror?: OnError;
  /** On a failed write: enospc (default), report, ignore, stop. */
  werror?: OnError;
  readOnly?: boolean;
  /** Whether the device model keeps an io-status (virtio-blk, scsi-disk and IDE do). Default true. */
  keepsIoStatus?: boolean;
}

/** One disk of the guest. */
export class GuestDevice {
  readonly name: string;
  readonly rerror: OnError;
  readonly werror: OnError;
  readonly backend: BlockBackend;
  readonly #machine: Machine;
  readonly #keepsIoStatus: boolean;
  #ioStatus: IoStatus = "ok";

  private constructor(options: GuestDeviceOptions) {
    this.#machine = options.machine;
    this.name = options.name;
    this.rerror = checkPolicy("rerror", normalise(options.rerror, "report"), ["ignore", "report", "stop"]);
    this.werror = checkPolicy("werror", normalise(options.werror, "enospc"), [
      "ignore",
      "report",
      "stop",
      "enospc",
    ]);
    this.#keepsIoStatus = options.keepsIoStatus ?? true;
    const { graph } = options.node;
    checkName(graph, options.name);
    this.backend = new BlockBackend(graph, options.name);
  }

  /** Plugs a disk in. Throws CommandError for a bad policy or a name that is taken, EPERM where the node's other users don't allow it. */
  static async plug(options: GuestDeviceOptions): Promise<GuestDevice> {
    const { machine, node, name } = options;
    const device = new GuestDevice(options);
    const permissions = options.readOnly || node.readOnly ? readerPermissions : guestPermissions;
    try {
      await device.backend.attach(node, permissions);
    } catch (error) {
      await device.backend.close();
      throw error;
    }
    // A request that came during a drain must not go on in a machine that has been stopped meanwhile.
    device.backend.held = () => machine.devices.get(name) === device && !machine.isRunning;
    announceDevicePolicy(device.backend, device);
    machine.devices.set(name, device);
    return device;
  }

  /** Takes the disk out; requests that wait for the machine are not waited for. */
  async unplug(): Promise<void> {
    this.#machine.devices.delete(this.name);
    await this.backend.close();
  }

  /** The device keeps a status and one of its policies may stop the machine. */
  get iostatusEnabled(): boolean {
    if (!this.#keepsIoStatus) return false;
    return this.werror === "enospc" || this.werror === "stop" || this.rerror === "stop";
  }

  get ioStatus(): IoStatus {
    return this.#ioStatus;
  }

  resetIoStatus(): void {
    this.#ioStatus = "ok";
  }

  /** Length of the disk, bytes. */
  get length(): number {
    return this.backend.length;
  }

  /** Reads; under rerror=ignore a failed read succeeds with unspecified bytes. Rejects only under report. */
  read(offset: number, buffer: Uint8Array): Promise<void> {
    return this.#ranged("read", { offset, bytes: buffer.byteLength }, () =>
      this.backend.pread(offset, buffer),
    );
  }

  /** Writes. Rejects only under report (and enospc for other errors). */
  write(offset: number, buffer: Uint8Array): Promise<void> {
    return this.#ranged("write", { offset, bytes: buffer.byteLength }, () =>
      this.backend.pwrite(offset, buffer),
    );
  }

  writeZeroes(offset: number, bytes: number, flags = 0): Promise<void> {
    return this.#ranged("write", { offset, bytes }, () => this.backend.pwriteZeroes(offset, bytes, flags));
  }

  discard(offset: number, bytes: number): Promise<void> {
    return this.#ranged("write", { offset, bytes }, () => this.backend.pdiscard(offset, bytes));
  }

  /** Makes completed writes durable; its errors follow werror. */
  flush(): Promise<void> {
    return this.#request("write", () => this.backend.flush());
  }

  /** A request outside of the disk is the guest's fault: it is refused with EIO, and no policy is asked. */
  async #ranged(operation: "read" | "write", range: ByteRange, issue: () => Promise<void>): Promise<void> {
    this.backend.checkRange(operation, range);
    await this.#request(operation, issue);
  }

  /** Issues a request while the machine runs, and again after each error that stopped it. */
  async #request(operation: "read" | "write", issue: () => Promise<void>): Promise<void> {
    for (;;) {
      await this.#machine.untilRunning();
      try {
        return await issue();
      } catch (error) {
        if (this.#machine.devices.get(this.name) !== this) throw error;
        const action = this.#decide(operation, error);
        if (action === "report") throw error;
        if (action === "ignore") return;
      }
    }
  }

  #decide(operation: "read" | "write", error: unknown): "report" | "ignore" | "stop" {
    const code = errnoOf(error);
    const action = decideErrorAction(operation === "read" ? this.rerror : this.werror, code);
    if (action === "stop" && this.iostatusEnabled && this.#ioStatus === "ok")
      this.#ioStatus = ioStatusFor(code);
    const node = this.backend.node?.name;
    this.#machine.graph.events.emit("BLOCK_IO_ERROR", {
      device: this.name,
      ...(node === undefined ? {} : { "node-name": node }),
      operation,
      action,
      ...(this.iostatusEnabled ? { nospace: code === "ENOSPC" } : {}),
      reason: strerror(code),
    });
    if (action === "stop") this.#machine.requestStop();
    return action;
  }
}

function checkName(graph: BlockGraph, name: string): void {
  if (graph.backends.has(name)) throw new CommandError(`Device with id '${name}' already exists`);
  if (graph.findNode(name))
    throw new CommandError(`Device name '${name}' conflicts with an existing node name`);
}

/** `auto` is the backend's default. */
function normalise(policy: OnError | undefined, byDefault: OnError): OnError {
  return policy === undefined || policy === "auto" ? byDefault : policy;
}

function checkPolicy(option: string, policy: OnError, allowed: readonly OnError[]): OnError {
  if (allowed.includes(policy)) return policy;
  throw new CommandError(`'${policy}' invalid ${option === "rerror" ? "read" : "write"} error action`);
}
