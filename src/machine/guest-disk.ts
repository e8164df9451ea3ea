/**
 * What an emulator's adapter needs of a disk and of the machine that the disk belongs to. The disk may be in this thread (a
 * GuestDevice) or behind a port, in the worker that runs the engine.
 *
 * Invariants: rerror, werror and the deadline are settled behind this interface, by the GuestDevice; a request that they
 * keep waiting just stays unanswered, and the machine says that it stopped.
 */
import { type Answer, isPromise } from "../base/answer.ts";
import type { Errno } from "../base/errno.ts";
import { flush } from "../block/io/request-path.ts";
import type { GuestDevice, GuestRequestOptions } from "./device.ts";
import type { GuestFailure } from "./machine.ts";

/** The run state of the machine. `Machine` is one; a client of a remote engine makes one of `stop`, `cont` and the events. */
export interface GuestMachine {
  /** False from STOP to RESUME. */
  readonly isRunning: boolean;
  /** Stops it; resolves when requests under way are done. Where the state cannot be told, `paused` is meant. */
  stop(state?: "paused" | "io-error"): Promise<void>;
  /** Lets it run on; requests that waited are issued again. */
  cont(): Promise<void>;
  /** Why the machine can't be reached any more: its worker has gone. It does not run then, and never will. */
  readonly lost?: Error | undefined;
  /** Tells of every STOP (false) and RESUME (true), in order, until the returned function is called. */
  watch(listener: (running: boolean) => void): () => void;
}

/** Options of a read of a guest's disk. */
export interface GuestReadOptions extends GuestRequestOptions {
  /** A buffer of as many bytes that the answer may be in, if the disk likes; nobody else uses it until the answer is there. */
  into?: Uint8Array;
}

/** One disk of a guest. */
export interface GuestDisk {
  /** Bytes; does not change. */
  readonly length: number;
  readonly readOnly: boolean;
  /** A whole number that no other opening of the disk has; the next 2^20 are its own too. */
  readonly session: number;
  /** The same object for all disks of one machine. */
  readonly machine: GuestMachine;
  /**
   * Reads exactly `bytes` bytes; it may answer at once. Fails, by rejecting, only with what the guest is to be told, or
   * `signal.reason` once that aborts.
   */
  read(offset: number, bytes: number, options?: GuestReadOptions): Answer<Uint8Array>;
  /** Writes. `data` stays the caller's, who does not change it until the end: no transfer. Rejects as read(). */
  write(offset: number, data: Uint8Array): Promise<void>;
  /**
   * Publishes, as BLOCK_IO_ERROR, a write that failed before the disk was asked, and what is done about it: the guest is told,
   * or the machine stops. Absent: nobody hears of it.
   */
  publish?(code: Errno, action: "report" | "stop"): void;
  /** The last request that failed or missed its deadline, with the cause in words; undefined: none has. */
  readonly lastFailure?: GuestFailure | undefined;
  /** Tells of each such request, before the machine stops for it, until the returned function is called. Absent: nobody hears of them. */
  watchFailures?(listener: (failure: GuestFailure) => void): () => void;
  /** Makes completed writes durable, also while the machine does not run. No policy is asked: it rejects if it fails. */
  flush(): Promise<void>;
  /** Takes the disk out of the machine. */
  close(): Promise<void>;
}

/** A guest device of this thread as a GuestDisk. */
export function guestDiskOf(device: GuestDevice): GuestDisk {
  const { random } = device.machine.graph.host;
  let lastFailure: GuestFailure | undefined;
  device.watchFailures((failure) => {
    lastFailure = failure;
  });
  return {
    get lastFailure() {
      return lastFailure;
    },
    watchFailures: (listener) => device.watchFailures(listener),
    session: random.below(2 ** 32) * 2 ** 20,
    length: device.length,
    readOnly: device.backend.node?.readOnly ?? true,
    machine: device.machine,
    read: (offset, bytes, options) => {
      const buffer = options?.into ?? new Uint8Array(bytes);
      const reading = device.read(offset, buffer, options);
      return isPromise(reading) ? reading.then(() => buffer) : buffer;
    },
    write: async (offset, data) => device.write(offset, data),
    publish: (code, action) => device.publish(code, action),
    flush: async () => {
      const { node } = device.backend;
      if (node) await flush(node);
    },
    close: () => device.unplug(),
  };
}
