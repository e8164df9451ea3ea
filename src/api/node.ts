/**
 * A node of the block graph in the hands of a library caller.
 *
 * Invariants: an idle handle takes no permission, so that jobs and other handles may use the node; the first read takes
 * consistent-read, the first write takes write, and both are kept until the next node is opened or job started in the
 * engine (releaseIdle) or the handle is closed. A permission that somebody else refuses is BlockError EPERM in QEMU's
 * words. The node lives until the last handle and job let it go. After a mirror was completed, the source's handle shows the target, as QEMU's devices do.
 */
import type { Answer } from "../base/answer.ts";
import { asyncDispose } from "../base/lease.ts";
import { BlockError, blockError } from "../base/errors.ts";
import { Mutex, abortable } from "../base/signals.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import { recoverStorage } from "../block/graph/recover.ts";
import { layers, skipImplicitFilters } from "../block/model/chain.ts";
import { Req } from "../block/model/contract.ts";
import type { BlockNode } from "../block/model/node.ts";
import { imageFilename } from "../block/model/filename.ts";
import { Perm } from "../block/model/permissions.ts";
import { imageInfo } from "../block/query.ts";
import type { Engine } from "../machine/engine.ts";
import type { TypeOf } from "../wire/qapi/index.ts";
import { type MapExtent, type MapRange, checkMapRange, extentAt, mapExtents } from "./map.ts";
import { checkBuffer, checkBytes, checkNumber, checkRange } from "./arguments.ts";
import { callOptions, optionsOf } from "./options.ts";
import { type StreamRange, readableOf, writableOf } from "./streams.ts";

/** What every call takes. */
export interface CallOptions {
  /** Ends the wait with `signal.reason`; a request that is under way goes on and may still use its buffer. */
  signal?: AbortSignal;
}

/** In which engine a call works; default: the entry's. */
export interface InEngine {
  engine?: Engine;
}

/** One image or filter of a disk's chain. */
export interface ChainLayer {
  /** Node name. */
  name: string;
  driver: string;
  /** The file that holds it; empty if it is no file. */
  filename: string;
  /** Virtual size, bytes. */
  length: number;
  readOnly: boolean;
}

/** What an image's header says, as qemu-img info has it (wire names). */
export type ImageInfo = TypeOf<"ImageInfo">;

const checkGiven = optionsOf<CallOptions>(callOptions);

/** The options of a call that was given none. */
const none: CallOptions = {};

/** Throws CommandError for what are no options of a call. */
export function checkCall(options: unknown): void {
  if (options !== none) checkGiven(options);
}

/** Throws CommandError for what are no options of writeZeroes(). */
export const checkZeroes = optionsOf<CallOptions & { unmap?: boolean }>({ ...callOptions, unmap: "bool" });
/** Throws CommandError for what are no options of info(). */
export const checkInfo = optionsOf<CallOptions & { backingChain?: boolean }>({
  ...callOptions,
  backingChain: "bool",
});

/** The open handles of each engine. */
const handles = new WeakMap<Engine, Set<Node>>();

/** Takes the permissions of all handles without requests under way back, so that nodes can be opened over them. */
export async function releaseIdle(engine: Engine): Promise<void> {
  for (const node of handles.get(engine) ?? []) if (!node.busy) await node.release();
}

/** The names of the files of open disks that were written to and not flushed since, by their handles; what lies in memory has none. */
export function unflushedFiles(engine: Engine): string[] {
  const names = [...(handles.get(engine) ?? [])].map((node) => node.unflushedFile);
  return [...new Set(names)].filter((name) => name !== "");
}

/** A disk, image or filter that is open. Made by openNode(). */
export class Node implements AsyncDisposable {
  readonly engine: Engine;
  readonly #backend: BlockBackend;
  readonly #permissions = new Mutex();
  #held = 0;
  /** Something was written since the last flush that succeeded. */
  #isUnflushed = false;
  #inFlight = 0;
  #closed: Promise<void> | undefined;

  private constructor(engine: Engine, backend: BlockBackend) {
    this.engine = engine;
    this.#backend = backend;
  }

  /** A handle of its own on a node of the engine's graph. @internal */
  static async attach(engine: Engine, node: BlockNode): Promise<Node> {
    const backend = new BlockBackend(engine.graph);
    await backend.attach(node, { perm: 0, shared: Perm.all });
    const made = new Node(engine, backend);
    const all = handles.get(engine) ?? new Set();
    handles.set(engine, all.add(made));
    return made;
  }

  /** The node of the block layer that the handle shows now. Throws ENOMEDIUM after close(). */
  get blockNode(): BlockNode {
    const { node } = this.#backend;
    if (!node) throw closedHandle();
    return node;
  }

  /** The node's name, given or made (`#block…`); filters of running jobs above it are not meant. */
  get name(): string {
    return skipImplicitFilters(this.blockNode).name;
  }

  /** Length of the disk, bytes. */
  get length(): number {
    return this.blockNode.length;
  }

  get readOnly(): boolean {
    return this.blockNode.readOnly;
  }

  /** The disk's images and filters from the top down to the lowest backing file. */
  get chain(): ChainLayer[] {
    return [...layers(this.blockNode)].map((node) => ({
      name: node.name,
      driver: node.type.name,
      filename: imageFilename(node),
      length: node.length,
      readOnly: node.readOnly,
    }));
  }

  /** Reads `bytes` bytes into a new buffer, or fills a given one, and returns it. Outside the disk: EIO. */
  async read(
    offset: number,
    into: number | Uint8Array<ArrayBuffer>,
    options?: CallOptions,
  ): Promise<Uint8Array<ArrayBuffer>>;
  async read(offset: number, into: number | Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  async read(offset: number, into: number | Uint8Array, options: CallOptions = none): Promise<Uint8Array> {
    checkCall(options);
    checkNumber("offset", offset);
    checkBuffer("bytes", into);
    const buffer = typeof into === "number" ? new Uint8Array(into) : into;
    await this.#request(Perm.consistentRead, options, () => this.#backend.pread(offset, buffer));
    return buffer;
  }

  /** Writes; not durable before flush(). The buffer must stay as it is until the call has resolved. */
  async write(offset: number, data: Uint8Array, options: CallOptions = none): Promise<void> {
    checkCall(options);
    checkNumber("offset", offset);
    checkBytes("data", data);
    await this.#request(Perm.write, options, () => this.#backend.pwrite(offset, data));
  }

  /** Makes a range read as zeroes; `unmap` allows to free its storage. */
  async writeZeroes(
    offset: number,
    bytes: number,
    options: CallOptions & { unmap?: boolean } = {},
  ): Promise<void> {
    checkZeroes(options);
    checkRange(offset, bytes);
    const flags = options.unmap ? Req.mayUnmap : 0;
    await this.#request(Perm.write, options, () => this.#backend.pwriteZeroes(offset, bytes, flags));
  }

  /** Drops a range's content, if the node was opened with `discard: "unmap"`; what it reads as is then up to the format. */
  async discard(offset: number, bytes: number, options: CallOptions = none): Promise<void> {
    checkCall(options);
    checkRange(offset, bytes);
    await this.#request(Perm.write, options, () => this.#backend.pdiscard(offset, bytes));
  }

  /** Makes completed writes durable. */
  async flush(options: CallOptions = none): Promise<void> {
    checkCall(options);
    const before = this.#isUnflushed;
    this.#isUnflushed = false;
    try {
      await this.#request(0, options, () => this.#backend.flush());
    } catch (error) {
      this.#isUnflushed ||= before;
      throw error;
    }
  }

  /**
   * The way out after a failed flush, which makes all later ones fail: opens the files below anew, writes what came since the
   * last good flush again as far as the system still has it, and makes it durable. What the system has dropped is lost: to be
   * sure, write it again. Returns whether a flush had failed. Rejects if it fails again.
   */
  async recover(): Promise<boolean> {
    return recoverStorage(this.blockNode);
  }

  /** A range as a byte stream, in chunks of 1 MiB. */
  readable(range: StreamRange = {}): ReadableStream<Uint8Array> {
    return readableOf(this, range);
  }

  /** A stream that writes from `offset` on and flushes when it is closed. */
  writable(range: Omit<StreamRange, "length"> = {}): WritableStream<Uint8Array> {
    return writableOf(this, range);
  }

  /** What lies at `offset`, seen through the whole chain: one extent of 1 … `bytes` bytes. */
  async blockStatus(offset: number, bytes: number, options: CallOptions = none): Promise<MapExtent> {
    checkCall(options);
    checkRange(offset, bytes);
    options.signal?.throwIfAborted();
    return abortable(extentAt(this.blockNode, offset, bytes), options.signal);
  }

  /** The extents of the disk in order, neighbours joined. */
  map(range: MapRange = {}): AsyncGenerator<MapExtent> {
    checkMapRange(range);
    return mapExtents(this.blockNode, range);
  }

  /** What `qemu-img info` says of the image; with `backingChain` also of those below it. */
  async info(options: CallOptions & { backingChain?: boolean } = {}): Promise<ImageInfo> {
    checkInfo(options);
    options.signal?.throwIfAborted();
    return abortable(imageInfo(this.blockNode, options.backingChain ?? false), options.signal);
  }

  /** The file that was written to and not flushed since; empty where there is none. @internal */
  get unflushedFile(): string {
    const { node } = this.#backend;
    return this.#isUnflushed && node ? imageFilename(node) : "";
  }

  /** Requests of this handle are under way. */
  get busy(): boolean {
    return this.#inFlight > 0;
  }

  /**
   * Gives all permissions back, so that others may write to the node; they are taken again when they are needed. Opening
   * a node and starting a job do it for all handles that are not busy.
   */
  async release(): Promise<void> {
    await this.#permissions.run(() => this.#setPermissions(0));
  }

  /**
   * Waits for the handle's requests and lets the node go; nobody else using it, it is flushed and closed. Rejects with
   * the first error of that, the node being closed all the same. May be called again.
   */
  close(): Promise<void> {
    handles.get(this.engine)?.delete(this);
    this.#closed ??= this.#backend.close();
    return this.#closed;
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }

  async #request(perm: number, { signal }: CallOptions, body: () => Answer<void>): Promise<void> {
    signal?.throwIfAborted();
    if (this.#closed) throw closedHandle();
    this.#inFlight += 1;
    const request = this.#perform(perm, body).finally(() => {
      this.#inFlight -= 1;
    });
    await abortable(request, signal);
  }

  async #perform(perm: number, body: () => Answer<void>): Promise<void> {
    if ((this.#held & perm) !== perm) await this.#take(perm);
    if (perm & Perm.write) this.#isUnflushed = true;
    await body();
  }

  async #take(perm: number): Promise<void> {
    if (perm & Perm.write && this.readOnly) throw isReadOnly(this.blockNode);
    await this.#permissions.run(async () => {
      if ((this.#held & perm) !== perm) await this.#setPermissions(this.#held | perm);
    });
  }

  async #setPermissions(perm: number): Promise<void> {
    const { root } = this.#backend;
    if (!root || perm === this.#held) return;
    // A writer keeps other writers out, but the disk's length may change; a reader minds nobody.
    const alone = Perm.consistentRead | Perm.writeUnchanged | Perm.resize;
    const shared = perm & Perm.write ? alone : Perm.all;
    await this.engine.graph.setPermissions(root, { perm, shared });
    this.#held = perm;
  }
}

function isReadOnly(node: BlockNode): BlockError {
  const message = `Block node is read-only: '${imageFilename(node) || node.name}'`;
  return new BlockError({ code: "EPERM", op: "write", node: node.name, message });
}

function closedHandle(): BlockError {
  return blockError("ENOMEDIUM", "node", "the node handle is closed");
}
