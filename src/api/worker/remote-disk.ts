/**
 * A disk of an engine in another thread.
 *
 * Invariants: requests take effect in the order in which they were made as far as they overlap (the other end sees to it);
 * at most `maxInFlight` are under way, each of at most `pieceBytes`, the rest wait in order, so memory is bounded by their
 * product beside the callers' own buffers. Bytes travel in buffers that change hands, or in memory that both sides see.
 */
import { asyncDispose } from "../../base/lease.ts";
import { blockError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { abortable, settleAll } from "../../base/signals.ts";
import { checkBuffer, checkBytes, checkNumber, checkRange } from "../arguments.ts";
import { checkMapRange, type MapExtent, type MapRange } from "../map.ts";
import { type CallOptions, type ImageInfo, checkCall, checkInfo, checkZeroes } from "../node.ts";
import { checkStreamOptions, type ImageStreamOptions } from "../image-stream.ts";
import type { WholeDiskOptions } from "../running-guest.ts";
import type { SnapshotInfo, SnapshotRef } from "../snapshots.ts";
import { type StreamRange, readableOf, writableOf } from "../streams.ts";
import type { DiskCalls, DiskFacts, SharedSlots } from "./calls.ts";
import type { PortCaller } from "./port.ts";
import { remoteStream } from "./remote-stream.ts";

/** How a remote disk is opened. */
export interface RemoteDiskOptions {
  /** Requests under way at once, 1 … 64; default 16. */
  maxInFlight?: number;
  /** Largest request, bytes, 512 … limits.maxRemoteBytes; larger ones are cut. Default 256 KiB. */
  pieceBytes?: number;
  /**
   * Carries data in shared memory, which a page has only if it is cross-origin isolated; elsewhere it is copied all the same
   * (`isShared` tells). Default false: it saves a tenth of a request of 4 KiB, and costs more than that for large ones.
   */
  shared?: boolean;
}

/** A number of places (slots), given out in order. */
class Places {
  readonly #free: number[];
  readonly #waiting: ((place: number) => void)[] = [];

  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
    this.#free = Array.from({ length: count }, (_value, index) => index);
  }

  /** Both ways resolve after one turn of the queue of promises, so nobody overtakes. */
  take(): Promise<number> {
    const place = this.#free.pop();
    if (place !== undefined) return Promise.resolve(place);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Takes all of them, when those who came before have had theirs; the function gives them back. */
  async all(): Promise<() => void> {
    const taken = await Promise.all(Array.from({ length: this.#count }, () => this.take()));
    return () => {
      for (const place of taken) this.give(place);
    };
  }

  give(place: number): void {
    const next = this.#waiting.shift();
    if (next) next(place);
    else this.#free.push(place);
  }
}

/** A disk in a worker: as a Node of the library, as far as data goes. Made by RemoteEngine. */
export class RemoteDisk implements AsyncDisposable {
  /** The node's name: what QMP knows it by. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Data travels in shared memory. */
  readonly isShared: boolean;
  readonly #caller: PortCaller<DiskCalls>;
  readonly #shared: SharedSlots | undefined;
  readonly #pieceBytes: number;
  readonly #places: Places;
  #length: number;
  #closed: Promise<void> | undefined;

  /** @internal */
  constructor(init: {
    caller: PortCaller<DiskCalls>;
    facts: DiskFacts;
    shared: SharedSlots | undefined;
    options: Required<Omit<RemoteDiskOptions, "shared">>;
  }) {
    const { caller, facts, shared, options } = init;
    this.#caller = caller;
    this.name = facts.name;
    this.readOnly = facts.readOnly;
    this.isShared = shared !== undefined;
    this.#length = facts.length;
    this.#shared = shared;
    this.#pieceBytes = options.pieceBytes;
    this.#places = new Places(options.maxInFlight);
  }

  /** Bytes, as of the last answer. */
  get length(): number {
    return this.#length;
  }

  /** @internal Another length was set, bytes. */
  becomes(length: number): void {
    this.#length = length;
  }

  /** Resolves with the reason when the disk can't be used any more: it was closed, or its worker has gone. */
  get ended(): Promise<Error> {
    return this.#caller.ended;
  }

  /** Reads `bytes` bytes into a new buffer, or fills a given one, and returns it. Outside the disk: EIO. */
  async read(
    offset: number,
    into: number | Uint8Array<ArrayBuffer>,
    options?: CallOptions,
  ): Promise<Uint8Array<ArrayBuffer>>;
  async read(offset: number, into: number | Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  async read(offset: number, into: number | Uint8Array, options: CallOptions = {}): Promise<Uint8Array> {
    checkCall(options);
    checkNumber("offset", offset);
    checkBuffer("bytes", into);
    const bytes = typeof into === "number" ? into : into.byteLength;
    if (typeof into === "number" && !this.#shared && bytes <= this.#pieceBytes) {
      // What comes is what was asked for: it is handed on as it is.
      return (await this.#piece(offset, bytes, options, undefined))!;
    }
    const buffer = typeof into === "number" ? new Uint8Array(bytes) : into;
    await this.#pieces(offset, bytes, async (at, length) => {
      const target = buffer.subarray(at - offset, at - offset + length);
      await this.#piece(at, length, options, target);
    });
    return buffer;
  }

  /** Writes; not durable before flush(). The data is copied before the call returns. */
  async write(offset: number, data: Uint8Array, options: CallOptions = {}): Promise<void> {
    checkCall(options);
    checkNumber("offset", offset);
    checkBytes("data", data);
    const copy = data.slice();
    return this.#pieces(offset, copy.byteLength, (at, length) =>
      this.#inPlace(options, async (slot) => {
        const piece = copy.subarray(at - offset, at - offset + length);
        if (this.#shared) {
          this.#slot(slot, length).set(piece);
          const args = { offset: at, bytes: length, slot };
          return this.#took(await this.#caller.call("write", args, options));
        }
        const own = length === copy.byteLength ? copy : piece.slice();
        const args = { offset: at, bytes: length, data: own };
        this.#took(await this.#caller.call("write", args, { ...options, transfer: [own.buffer] }));
      }),
    );
  }

  /** Makes a range read as zeroes; `unmap` allows to free its storage. */
  async writeZeroes(
    offset: number,
    bytes: number,
    options: CallOptions & { unmap?: boolean } = {},
  ): Promise<void> {
    checkZeroes(options);
    checkRange(offset, bytes);
    const args = { offset, bytes, unmap: options.unmap ?? false };
    await this.#inPlace(options, async () => this.#took(await this.#caller.call("zeroes", args, options)));
  }

  /** Drops a range's content, if the node was opened with `discard: "unmap"`. */
  async discard(offset: number, bytes: number, options: CallOptions = {}): Promise<void> {
    checkCall(options);
    checkRange(offset, bytes);
    await this.#inPlace(options, async () =>
      this.#took(await this.#caller.call("discard", { offset, bytes }, options)),
    );
  }

  /** Makes all writes made before it durable, also those that have not been answered yet. */
  async flush(options: CallOptions = {}): Promise<void> {
    checkCall(options);
    await this.#inPlace(options, async () => this.#took(await this.#caller.call("flush", {}, options)));
  }

  /** A range as a byte stream, in chunks of 1 MiB. */
  readable(range: StreamRange = {}): ReadableStream<Uint8Array> {
    return readableOf(this, range);
  }

  /** A stream that writes from `offset` on and flushes when it is closed. */
  writable(range: Omit<StreamRange, "length"> = {}): WritableStream<Uint8Array> {
    return writableOf(this, range);
  }

  /** What `qemu-img info` says of the image; with `backingChain` also of those below it. */
  async info(options: CallOptions & { backingChain?: boolean } = {}): Promise<ImageInfo> {
    checkInfo(options);
    const { signal, backingChain = false } = options;
    return abortable(this.#caller.call("info", { backingChain }, { signal }), signal);
  }

  /** The extents of the disk in order, neighbours joined (not across every 4096th). */
  map(range: MapRange = {}): AsyncGenerator<MapExtent> {
    checkMapRange(range);
    return this.#map(range);
  }

  async *#map({ offset = 0, length, signal }: MapRange): AsyncGenerator<MapExtent> {
    const end = Math.min(this.#length, offset + (length ?? this.#length));
    const most = limits.maxRemoteExtents;
    for (let at = offset; at < end;) {
      const asked = this.#caller.call("map", { offset: at, bytes: end - at, most }, { signal });
      const extents = await abortable(asked, signal);
      const last = extents.at(-1);
      if (!last) return;
      yield* extents;
      at = last.offset + last.bytes;
    }
  }

  /** The disk as it is now, as a stream; see imageStream(). Resolves when the point in time is fixed. */
  async imageStream(options: ImageStreamOptions = {}): Promise<ReadableStream<Uint8Array>> {
    checkStreamOptions(options);
    return remoteStream(this.#caller, options);
  }

  /** @deprecated The former name of imageStream(). */
  export(options: ImageStreamOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return this.imageStream(options);
  }

  /** The image's internal snapshots, oldest first; as those of the library. */
  snapshots(): Promise<readonly SnapshotInfo[]> {
    return this.#caller.call("snapshots", {});
  }

  /** Keeps the disk as it is now; see createSnapshot(). */
  createSnapshot(name: string): Promise<SnapshotInfo> {
    return this.#caller.call("snapshotCreate", { name });
  }

  /** Makes the disk what it was; see applySnapshot(). */
  applySnapshot(which: SnapshotRef, options: WholeDiskOptions = {}): Promise<void> {
    return this.#caller.call("snapshotApply", { which, options });
  }

  /** Forgets a snapshot; see removeSnapshot(). */
  removeSnapshot(which: SnapshotRef): Promise<void> {
    return this.#caller.call("snapshotRemove", { which });
  }

  /** Throws away what the disk's own image holds; see discardOverlay(). */
  discardOverlay(options: WholeDiskOptions = {}): Promise<void> {
    return this.#caller.call("discardOverlay", { options });
  }

  /** Waits for its requests and closes the handle in the worker; rejects with a failed flush. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const giveAll = await this.#places.all();
    try {
      if (!this.#caller.failure) await this.#caller.call("close", {});
    } finally {
      this.#caller.end(blockError("ENOMEDIUM", "remote", "the disk is closed"));
      giveAll();
    }
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  #took(answer: { length: number }): void {
    this.#length = answer.length;
  }

  /** Cuts a range into pieces, which wait for their places in order. Rejects with the first failure, after all of them. */
  async #pieces(
    offset: number,
    bytes: number,
    piece: (at: number, length: number) => Promise<unknown>,
  ): Promise<void> {
    const all: Promise<unknown>[] = [];
    const size = this.#pieceBytes;
    const end = offset + bytes;
    for (let at = offset; at < end || all.length === 0; at += size) {
      all.push(piece(at, Math.min(size, end - at)));
    }
    await settleAll(all);
  }

  #piece(
    offset: number,
    bytes: number,
    options: CallOptions,
    into: Uint8Array | undefined,
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#inPlace(options, async (slot) => {
      const args = this.#shared ? { offset, bytes, slot } : { offset, bytes };
      const answer = await this.#caller.call("read", args, options);
      this.#took(answer);
      if (into) into.set(this.#shared ? this.#slot(slot, bytes) : answer.data!);
      return answer.data;
    });
  }

  /** Waits for a place and runs `body`. After an abort nobody waits, but the place is taken until the answer. */
  async #inPlace<T>({ signal }: CallOptions, body: (place: number) => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    const request = this.#places.take().then(async (place) => {
      try {
        signal?.throwIfAborted();
        return await body(place);
      } finally {
        this.#places.give(place);
      }
    });
    return abortable(request, signal);
  }

  #slot(slot: number, bytes: number): Uint8Array {
    const { buffer, slotBytes } = this.#shared!;
    return new Uint8Array(buffer, slot * slotBytes, bytes);
  }
}
