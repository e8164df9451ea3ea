/**
 * One disk, served to the other end of a port.
 *
 * Invariants: a request begins when no earlier one that it could disagree with is under way (a write and anything that
 * overlaps it; a flush and every change before it), so that the port's order is the order of effects; others run
 * together. A request of more than limits.maxRemoteBytes is refused before anything is allocated.
 */
import { blockError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { type ByteRange, RangeLock } from "../../base/ranges.ts";
import { onAbort } from "../../base/signals.ts";
import type { Node } from "../node.ts";
import { discardOverlay } from "../overlay.ts";
import { applySnapshot, createSnapshot, removeSnapshot, snapshots } from "../snapshots.ts";
import { type DiskCalls, type SharedSlots, checkBytes } from "./calls.ts";
import { ServedStreams } from "./serve-stream.ts";
import { type CallContext, type CallHandlers, type PortLike, PortServer } from "./port.ts";

const everything = { offset: 0, bytes: Infinity };

/** The handlers of a disk's calls. */
class ServedDisk {
  readonly node: Node;
  readonly #shared: SharedSlots | undefined;
  readonly #order = new RangeLock();
  readonly #streams: ServedStreams;

  constructor(node: Node, shared: SharedSlots | undefined) {
    this.node = node;
    this.#streams = new ServedStreams(node);
    this.#shared = shared;
  }

  handlers(onClose: () => Promise<void>): CallHandlers<DiskCalls> {
    return {
      read: (args, context) => this.#read(args, context),
      write: (args, { signal }) => {
        const data = this.#dataOf(args);
        return this.#change(args, () => this.node.write(args.offset, data, { signal }));
      },
      zeroes: ({ offset, bytes, unmap }, { signal }) =>
        this.#change({ offset, bytes }, () => this.node.writeZeroes(offset, bytes, { unmap, signal })),
      discard: ({ offset, bytes }, { signal }) =>
        this.#change({ offset, bytes }, () => this.node.discard(offset, bytes, { signal })),
      flush: (_args, { signal }) => this.#flush(signal),
      info: ({ backingChain }, { signal }) => this.node.info({ backingChain, signal }),
      map: async ({ offset, bytes, most }, { signal }) => {
        const extents = [];
        for await (const extent of this.node.map({ offset, length: bytes, signal })) {
          if (extents.push(extent) >= Math.min(most, limits.maxRemoteExtents)) break;
        }
        return extents;
      },
      ...this.#streams.handlers(),
      snapshots: async () => snapshots(this.node),
      snapshotCreate: ({ name }) => createSnapshot(this.node, name),
      snapshotApply: ({ which, options }) => applySnapshot(this.node, which, options),
      snapshotRemove: ({ which }) => removeSnapshot(this.node, which),
      discardOverlay: ({ options }) => discardOverlay(this.node, options),
      close: () => this.#inOrder({ ...everything, exclusive: true }, onClose),
    };
  }

  /** Takes down what the other end has left open. */
  end(): Promise<void> {
    return this.#streams.end();
  }

  async #read(
    args: DiskCalls["read"]["args"],
    { signal, transfer }: CallContext,
  ): Promise<DiskCalls["read"]["value"]> {
    const { offset, bytes, slot } = args;
    checkBytes(bytes);
    return this.#inOrder({ offset, bytes, exclusive: false }, async () => {
      // Not into the slot itself: an answer gives it back, and after an abort the read may still go on.
      const data = new Uint8Array(bytes);
      await this.node.read(offset, data, { signal });
      const { length } = this.node;
      if (slot === undefined) {
        transfer.push(data.buffer);
        return { length, data };
      }
      this.#slot(slot, bytes).set(data);
      return { length };
    });
  }

  async #change(
    range: { offset: number; bytes: number },
    body: () => Promise<void>,
  ): Promise<{ length: number }> {
    return this.#inOrder({ offset: range.offset, bytes: range.bytes, exclusive: true }, async () => {
      await body();
      return { length: this.node.length };
    });
  }

  /** As a read of everything: it waits for every change before it, and reads do not wait for it. */
  async #flush(signal: AbortSignal): Promise<{ length: number }> {
    return this.#inOrder({ ...everything, exclusive: false }, async () => {
      await this.node.flush({ signal });
      return { length: this.node.length };
    });
  }

  /** Runs `body` after the earlier requests that it depends on: `exclusive` for what changes something. */
  async #inOrder<T>(range: ByteRange & { exclusive: boolean }, body: () => Promise<T>): Promise<T> {
    const held = await this.#order.inTurn(range);
    try {
      return await body();
    } finally {
      this.#order.end(held);
    }
  }

  #dataOf({ bytes, data, slot }: DiskCalls["write"]["args"]): Uint8Array {
    checkBytes(bytes);
    if (data) return data;
    if (slot === undefined) throw blockError("EINVAL", "pwrite", "a write came without its data");
    return this.#slot(slot, bytes).slice();
  }

  #slot(slot: number, bytes: number): Uint8Array {
    const { buffer, slotBytes } = this.#shared!;
    if (bytes > slotBytes) throw blockError("EINVAL", "remote", "the request is larger than its slot");
    return new Uint8Array(buffer, slot * slotBytes, bytes);
  }
}

/** Serves `node` until the other end closes or `signal` aborts. Rejects with a failed flush that the other end was not told of. */
export async function serveDisk(
  node: Node,
  { port, shared }: { port: PortLike; shared: SharedSlots | undefined },
  signal: AbortSignal,
): Promise<void> {
  let isAsked = false;
  const served = new ServedDisk(node, shared);
  const close = async (): Promise<void> => {
    isAsked = true;
    await served.end();
    await node.close();
  };
  const server = new PortServer<DiskCalls>(port, served.handlers(close));
  const forget = onAbort(signal, server.end);
  if (signal.aborted) server.end();
  await server.ended;
  await served.end();
  forget();
  await node.close().catch((error: unknown) => {
    if (!isAsked) throw error;
  });
}
