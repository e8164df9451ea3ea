/**
 * A guest device's disk: requests of the guest under rerror and werror. An error is ignored, reported to the guest, or
 * stops the machine and is tried again by `cont`; BLOCK_IO_ERROR says which, always. A request that takes longer than
 * the deadline stops the machine too, before the guest's own driver gives the disk up.
 * Source: behaviour of QEMU 7.2's block backends and of its disk models; the deadline is ours.
 */
import { type Answer, isPromise, rejected } from "../base/answer.ts";
import { AssertionError } from "../base/assert.ts";
import { CommandError, errnoOf, messageOf } from "../base/errors.ts";
import { type Errno, strerror } from "../base/errno.ts";
import type { ByteRange } from "../base/ranges.ts";
import { abortable } from "../base/signals.ts";
import { BlockBackend, guestPermissions, readerPermissions } from "../block/graph/backend.ts";
import type { Permissions } from "../block/model/contract.ts";
import { Perm } from "../block/model/permissions.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import { Account, type AccountedKind, type BlockNode } from "../block/model/node.ts";
import { announceDevicePolicy } from "../job/core/device-policy.ts";
import {
  type BlockErrorAction,
  type IoStatus,
  type OnError,
  decideErrorAction,
  ioStatusFor,
} from "../job/core/error-policy.ts";
import { Deadline } from "./deadline.ts";
import type { GuestFailure, Machine, PluggedDevice } from "./machine.ts";
import { valuesOf } from "../wire/qapi/option-types.ts";

type Operation = "read" | "write";

interface GuestRequest {
  readonly operation: Operation;
  readonly kind: AccountedKind;
  readonly range: ByteRange;
  readonly issue: () => Answer<void>;
  readonly signal: AbortSignal | undefined;
}

/** Options of a read or write of a guest. */
export interface GuestRequestOptions {
  /** The guest gave the request up: it rejects with `signal.reason`, and is not tried again. */
  signal?: AbortSignal | undefined;
}

/** A disk's length may change under its guest, who is told (block_resize). */
const diskPermissions: Permissions = {
  ...guestPermissions,
  shared: guestPermissions.shared | Perm.resize,
};

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
  /** False: each write is durable before it completes (QEMU's write-cache=off). Default true. */
  writeCache?: boolean;
  /** A request that has no answer after so many milliseconds stops the machine, and is waited for on. Default 0: never. */
  deadlineMs?: number;
}

/** One disk of the guest. */
export class GuestDevice implements PluggedDevice {
  readonly name: string;
  readonly rerror: OnError;
  readonly werror: OnError;
  readonly backend: BlockBackend;
  readonly #machine: Machine;
  readonly #keepsIoStatus: boolean;
  readonly #deadline: Deadline<GuestRequest>;
  readonly #watchers = new Set<(failure: GuestFailure) => void>();
  /** What the guest has asked of it. */
  readonly account = new Account();
  #ioStatus: IoStatus = "ok";
  #lastFailure: GuestFailure | undefined;

  private constructor(options: GuestDeviceOptions) {
    this.#machine = options.machine;
    this.name = options.name;
    this.rerror = checkPolicy("rerror", normalise(options.rerror, "report"));
    this.werror = checkPolicy("werror", normalise(options.werror, "enospc"));
    this.#keepsIoStatus = options.keepsIoStatus ?? true;
    const { graph } = options.machine;
    checkName(graph, options.name);
    this.#deadline = new Deadline(graph.host.clock, options.deadlineMs ?? 0, (request) =>
      this.#late(request),
    );
    this.backend = new BlockBackend(graph, options.name);
    this.backend.writeCache = options.writeCache ?? true;
  }

  /** Plugs a disk in. Throws CommandError for a bad policy or a name that is taken, EPERM where the node's other users don't allow it. */
  static async plug(options: GuestDeviceOptions): Promise<GuestDevice> {
    const { machine, node } = options;
    const device = new GuestDevice(options);
    const permissions = options.readOnly || node.readOnly ? readerPermissions : diskPermissions;
    try {
      await device.backend.attach(node, permissions);
    } catch (error) {
      await device.backend.close();
      throw error;
    }
    // A request that came during a drain must not go on in a machine that has been stopped meanwhile.
    device.backend.held = () => machine.devices.has(device) && !machine.isRunning;
    announceDevicePolicy(device.backend, device);
    machine.devices.add(device);
    return device;
  }

  /** Takes the disk out; requests that wait for the machine are not waited for. */
  async unplug(): Promise<void> {
    this.#machine.devices.delete(this);
    this.#deadline.stop();
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

  /** The machine goes on: errors are forgotten, and requests under way get their full time again. */
  resetIoStatus(): void {
    this.#ioStatus = "ok";
    this.#deadline.restart();
  }

  /** The machine's graph and run state. */
  get machine(): Machine {
    return this.#machine;
  }

  /** The last request that failed, whatever the policy made of it. */
  get lastFailure(): GuestFailure | undefined {
    return this.#lastFailure;
  }

  /** Tells of each request that fails or misses its deadline (ETIMEDOUT), before the machine stops for it, until the returned function is called. */
  watchFailures(listener: (failure: GuestFailure) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** Length of the disk, bytes. */
  get length(): number {
    return this.backend.length;
  }

  /** Reads; under rerror=ignore a failed read succeeds with unspecified bytes. Rejects only under report. */
  read(offset: number, buffer: Uint8Array, options: GuestRequestOptions = {}): Answer<void> {
    const refusal = this.#refusal("read", { offset, bytes: buffer.byteLength });
    if (refusal) return refusal;
    // A guest reads often, and nearly always gets its bytes at once: nothing is made then that only others need.
    if (!this.#machine.isRunning) return this.#readLater(offset, buffer, options.signal);
    const fromMs = this.#nowMs();
    const issued = this.backend.pread(offset, buffer);
    if (isPromise(issued)) return this.#readLater(offset, buffer, options.signal, issued);
    return this.#done("read", buffer.byteLength, fromMs);
  }

  /** A read under way, or one that waits until the machine runs. */
  #readLater(
    offset: number,
    buffer: Uint8Array,
    signal: AbortSignal | undefined,
    issued?: Promise<void>,
  ): Promise<void> {
    const range = { offset, bytes: buffer.byteLength };
    const issue = (): Answer<void> => this.backend.pread(offset, buffer);
    return this.#settle({ operation: "read", kind: "read", range, issue, signal }, issued);
  }

  /** Writes. Rejects only under report (and enospc for other errors). */
  write(offset: number, buffer: Uint8Array): Answer<void> {
    const range = { offset, bytes: buffer.byteLength };
    return this.#ranged("write", range, () => this.backend.pwrite(offset, buffer));
  }

  writeZeroes(offset: number, bytes: number, flags = 0): Answer<void> {
    return this.#ranged("write", { offset, bytes }, () => this.backend.pwriteZeroes(offset, bytes, flags));
  }

  discard(offset: number, bytes: number): Answer<void> {
    return this.#ranged("unmap", { offset, bytes }, () => this.backend.pdiscard(offset, bytes));
  }

  /** Makes completed writes durable; its errors follow werror. */
  flush(): Answer<void> {
    const range = { offset: 0, bytes: 0 };
    const issue = (): Answer<void> => this.backend.flush();
    return this.#request({ operation: "write", kind: "flush", range, issue, signal: undefined });
  }

  /** Tells of a write that failed before it came here, and stops the machine if that is what is done about it. */
  publish(code: Errno, action: "report" | "stop"): void {
    this.#announce("write", { code, action });
  }

  /** A request outside of the disk is the guest's fault: it is refused with EIO, and no policy is asked. */
  #ranged(kind: "write" | "unmap", range: ByteRange, issue: () => Answer<void>): Answer<void> {
    const refusal = this.#refusal(kind, range);
    return refusal ?? this.#request({ operation: "write", kind, range, issue, signal: undefined });
  }

  #refusal(kind: "read" | "write" | "unmap", { offset, bytes }: ByteRange): Promise<never> | undefined {
    try {
      this.backend.checkRange(kind === "read" ? "read" : "write", offset, bytes);
      return undefined;
    } catch (error) {
      this.account[kind].invalid += 1;
      this.account.lastAccessMs = this.#nowMs();
      return rejected(error);
    }
  }

  #nowMs(): number {
    return this.#machine.graph.host.clock.nowMs();
  }

  #done(kind: AccountedKind, bytes: number, fromMs: number): void {
    const nowMs = this.#nowMs();
    this.account.done(kind, bytes, nowMs - fromMs);
    this.account.lastAccessMs = nowMs;
  }

  #failed(kind: AccountedKind, fromMs: number): void {
    const nowMs = this.#nowMs();
    this.account.failed(kind, nowMs - fromMs);
    this.account.lastAccessMs = nowMs;
  }

  /** Issues a request while the machine runs. What is answered at once needs neither deadline nor policy. */
  #request(request: GuestRequest): Answer<void> {
    if (!this.#machine.isRunning) return this.#settle(request, undefined);
    const fromMs = this.#nowMs();
    const issued = request.issue();
    if (isPromise(issued)) return this.#settle(request, issued);
    return this.#done(request.kind, request.range.bytes, fromMs);
  }

  /**
   * Waits for a request under way, if there is one, and issues it again after each error that stopped the machine. It counts
   * once, when the guest has its answer.
   */
  async #settle(request: GuestRequest, issued: Promise<void> | undefined): Promise<void> {
    const { kind, range, issue, signal } = request;
    for (let first = issued; ; first = undefined) {
      if (!first && !this.#machine.isRunning) await abortable(this.#machine.untilRunning(), signal);
      const fromMs = this.#nowMs();
      try {
        const answer = first ?? issue();
        if (isPromise(answer)) await this.#deadline.watch(request, answer);
        return this.#done(kind, range.bytes, fromMs);
      } catch (error) {
        const action = this.#decide(request, error);
        if (action === "stop") continue;
        if (action === "ignore") return this.#done(kind, range.bytes, fromMs);
        this.#failed(kind, fromMs);
        throw error;
      }
    }
  }

  /** What is done about an error of a request. Throws it where no policy is asked. */
  #decide({ operation, range, signal }: GuestRequest, error: unknown): BlockErrorAction {
    // No policy is asked about a broken invariant.
    if (error instanceof AssertionError) throw error;
    signal?.throwIfAborted();
    if (!this.#machine.devices.has(this)) throw error;
    const code = errnoOf(error);
    this.#lastFailure = { operation, ...range, code, message: messageOf(error) };
    this.#tell(this.#lastFailure);
    const action = decideErrorAction(operation === "read" ? this.rerror : this.werror, code);
    this.#announce(operation, { code, action });
    return action;
  }

  /** A request took too long: the machine stops, whatever the policy is. The request goes on, so it has not failed. */
  #late({ operation, range }: GuestRequest): void {
    if (!this.#machine.isRunning) return;
    this.#tell({ operation, ...range, code: "ETIMEDOUT", message: "it has had no answer in time" });
    this.#announce(operation, { code: "ETIMEDOUT", action: "stop" });
  }

  #tell(failure: GuestFailure): void {
    for (const watcher of this.#watchers) watcher(failure);
  }

  /** Says what is done about an error, and stops the machine if it is that. */
  #announce(operation: Operation, { code, action }: { code: Errno; action: BlockErrorAction }): void {
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
  }
}

function checkName(graph: BlockGraph, name: string): void {
  if (graph.backends.has(name))
    throw new CommandError(`Device with id '${name}' already exists`, { code: "EEXIST" });
  if (graph.findNode(name))
    throw new CommandError(`Device name '${name}' conflicts with an existing node name`, { code: "EEXIST" });
}

/** `auto` is the backend's default. */
function normalise(policy: OnError | undefined, byDefault: OnError): OnError {
  return policy === undefined || policy === "auto" ? byDefault : policy;
}

/** Only a write can find the disk full. */
function checkPolicy(option: "rerror" | "werror", policy: OnError): OnError {
  const known = valuesOf("BlockdevOnError").includes(policy);
  if (known && (option === "werror" || policy !== "enospc")) return policy;
  throw new CommandError(`'${policy}' invalid ${option === "rerror" ? "read" : "write"} error action`);
}
