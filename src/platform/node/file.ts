/**
 * An open file of Node: callback fs calls on a descriptor, and for data the transfers that its host was made with (see
 * lanes.ts). Buffers may be views of a WebAssembly memory.
 *
 * Invariant: a file descriptor is closed only when no request uses it any more, so that a file can be reopened in another mode
 * while requests are under way: they end on the descriptor that they began on.
 */
import * as fs from "node:fs";
import { type Answer, ending, isPromise, rescue } from "../../base/answer.ts";
import { BlockError, blockError, errnoOf, isUnsupported } from "../../base/errors.ts";
import type { FileExtent, FileInfo, FileLockRequest, FilePart, HostFile } from "../../base/host.ts";
import type { FileZeroes } from "../../base/ranges.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import { memoryTransfers } from "./at-hand.ts";
import { BounceBuffer } from "./bounce.ts";
import type { FileAnswer, FileCall, FileFacts } from "./calls.ts";
import { fallocateError, nodeError } from "./errors.ts";
import { type ExtentCalls, ExtentFinder } from "./extents.ts";
import { fdSets, isFdSetName } from "./fd-sets.ts";
import { onFileThreads, type TwoRanges } from "./file-thread.ts";
import { type FileLock, ImageLock } from "./image-lock.ts";
import { Lane, type TransferRequest, type Transfers, UnflushedRanges } from "./lanes.ts";
import { Fallocate, type NativeCalls, type SeekKind } from "./native.ts";
import { contentBytes, fileInfo } from "./info.ts";
import { copyCalls, Offload } from "./offload.ts";
import { OpenFile } from "./open-files.ts";
import { resizeFile } from "./preallocate.ts";
import { rewrite } from "./rewrite.ts";

/** Flags of fs.constants for a file: never waits on a FIFO, never makes a terminal ours. */
export function openFlags({ write, direct }: { write: boolean; direct: boolean }): number {
  const { O_RDWR, O_RDONLY, O_DIRECT, O_NONBLOCK, O_NOCTTY } = fs.constants;
  return (write ? O_RDWR : O_RDONLY) | (direct ? (O_DIRECT ?? 0) : 0) | (O_NONBLOCK ?? 0) | (O_NOCTTY ?? 0);
}

/** fs.open as a promise of a descriptor's number; fails with a BlockError of operation `op`. */
export async function openDescriptor(
  path: string,
  flags: number,
  op: string,
  lane = new Lane(),
): Promise<number> {
  if (isFdSetName(path)) return fdSets.open(path, flags);
  return (await lane.make({ call: "open", path, flags, mode: 0o644 }, op)) as number;
}

/** An open descriptor and the requests that use it. */
export class Descriptor {
  readonly fd: number;
  readonly #lane: Lane;
  #users = 0;
  #whenIdle: (() => void) | undefined;

  constructor(fd: number, lane: Lane) {
    this.fd = fd;
    this.#lane = lane;
  }

  /** A request begins. */
  acquire(): this {
    this.#users += 1;
    return this;
  }

  /** A request has ended. */
  release(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#whenIdle?.();
  }

  /**
   * Closes after the last request; reports what close(2) says. Nothing may begin any more. The descriptor of a file that
   * was given up stays open: what is stuck below may still use it.
   */
  async close(lock?: FileLock): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve));
    lock?.release(this.fd);
    if (fdSets.release(this.fd)) return;
    if (!this.#lane.givenUp) await this.#lane.make({ call: "close", fd: this.fd }, "close");
  }
}

/** The bit of FileLockRequest for writing. */
const SHARES_WRITING = 2;

/** As much of a file that was empty as is written at once. */
const FIRST_BLOCK_BYTES = 4096;

/** What an open file is made of. */
export interface NodeFileInit {
  fd: number;
  path: string;
  /** What the file is: see open-files.ts. */
  identity: string;
  /** Multiple of all offsets, lengths and addresses; above 1 only for O_DIRECT. */
  alignment: number;
  direct: boolean;
  write: boolean;
  /** How bytes are moved. */
  transfers: Transfers;
  /** Holes are looked for in the caller's turn. */
  inTurn: boolean;
  /** Absent: no locks, no hole punching, little knowledge of holes. */
  native: NativeCalls | undefined;
}

/**
 * HostFile on a descriptor. Invariant: after a failed flush no later one of this file succeeds, save with O_DIRECT. The
 * kernel tells a failed write-back once and takes the lost pages for clean then, so the next fdatasync would say that all is
 * well; only a file that is opened anew is believed again (recover()). No change begins while that is done.
 */
export class NodeFile implements HostFile {
  readonly alignment: number;
  readonly canLock: boolean;
  readonly #path: string;
  readonly #direct: boolean;
  readonly #native: NativeCalls | undefined;
  readonly #transfers: Transfers;
  readonly #extents: ExtentFinder;
  readonly #entry: OpenFile;
  readonly #lock: FileLock;
  readonly #bounce = new BounceBuffer();
  readonly #lane: Lane;
  #descriptor: Descriptor;
  #write: boolean;
  /** The first failed flush. */
  #lost: BlockError | undefined;
  readonly #offload = new Offload();
  readonly #unflushed = new UnflushedRanges();
  #recovery: Promise<boolean> | undefined;

  constructor(init: NodeFileInit) {
    this.alignment = init.alignment;
    this.canLock = init.native !== undefined;
    this.#path = init.path;
    this.#direct = init.direct;
    this.#native = init.native;
    this.#transfers = init.transfers;
    this.#lane = new Lane(init);
    this.#extents = new ExtentFinder(this.#extentCalls(init));
    this.#entry = new OpenFile(init.identity, init.path);
    this.#lock = init.native ? new ImageLock(init.native, init.path) : this.#entry;
    this.#descriptor = new Descriptor(init.fd, this.#lane);
    this.#write = init.write;
  }

  #extentCalls({ native, inTurn }: NodeFileInit): ExtentCalls {
    const seek = (calls: NativeCalls, ...[fd, offset, kind]: [number, number, SeekKind]): Answer<number> => {
      if (inTurn) return calls.seek(fd, offset, kind);
      const run = (): Promise<number> => calls.seekLater(fd, offset, kind);
      return this.#lane.make({ call: "native", run }, "blockStatus") as Promise<number>;
    };
    return {
      seek: native && ((fd, offset, kind) => seek(native, fd, offset, kind)),
      facts: (fd) =>
        inTurn
          ? fs.fstatSync(fd, { bigint: true })
          : (this.#lane.make({ call: "fstat", fd }, "blockStatus") as Promise<FileFacts>),
    };
  }

  read(buffer: Uint8Array, offset: number): Answer<number> {
    if (!this.#direct) return this.#read(buffer, offset);
    return rescue(
      () => this.#read(buffer, offset),
      (error) => {
        if (errnoOf(error) !== "EINVAL") throw error;
        return this.#readBounced(buffer, offset);
      },
    );
  }

  write(buffer: Uint8Array, offset: number): Answer<void> {
    if (this.#recovery) return this.#afterRecovery().then(() => this.write(buffer, offset));
    if (!this.#direct) return this.#writeAll(buffer, offset);
    return rescue(
      () => this.#writeAll(buffer, offset),
      (error) => {
        if (errnoOf(error) !== "EINVAL") throw error;
        return this.#bounce.transfer(buffer.byteLength, async (aligned, start) => {
          aligned.set(buffer.subarray(start, start + aligned.byteLength));
          await this.#writeAll(aligned, offset + start);
          return "more";
        });
      },
    );
  }

  copyFrom(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined {
    const streams = parts[0]?.source.streams;
    // The other decoders are a pool's, see decode-pool.ts.
    if (streams && !this.#native) return undefined;
    const { granule, unit, offload = false } = zeroes;
    return this.#with(parts, (b, ranges) => {
      const byThreads = (): Promise<readonly number[]> | undefined =>
        onFileThreads({ verb: streams ? "expand" : "copy", b, ranges, streams, granule, unit });
      const copying = offload && !streams ? this.#offloaded(b, ranges, byThreads) : byThreads();
      return copying?.finally(() => {
        ranges.forEach(({ atB, bytes }) => {
          this.#extents.written(atB, atB + bytes);
          this.#unflushed.add(atB, bytes);
        });
      });
    });
  }

  /** Has the system copy, or threads where it can't. */
  #offloaded(
    own: number,
    ranges: readonly TwoRanges[],
    byThreads: () => Promise<readonly number[]> | undefined,
  ): Promise<readonly number[]> | undefined {
    const native = this.#native;
    if (!native) return byThreads();
    const none = ranges.map(() => 0);
    return this.#offload.copy(ranges, copyCalls(native, own, this.#lane)).then(
      (counts) => counts ?? byThreads() ?? none,
      () => none,
    );
  }

  sameAs(parts: readonly FilePart[]): Promise<readonly number[]> | undefined {
    return this.#with(parts, (b, ranges) => onFileThreads({ verb: "compare", b, ranges }));
  }

  /** Has threads do what takes the descriptors of other files, and of this one. */
  #with(
    parts: readonly FilePart[],
    body: (own: number, ranges: TwoRanges[]) => Promise<readonly number[]> | undefined,
  ): Promise<readonly number[]> | undefined {
    const used = new Map<HostFile, Descriptor>([[this, this.#descriptor]]);
    const ranges: TwoRanges[] = [];
    if (this.#direct || this.#recovery) return undefined;
    for (let index = 0; index < parts.length; index++) {
      const { offset, source } = parts[index]!;
      const { file, offset: from, bytes } = source;
      if (!(file instanceof NodeFile) || file === this || file.#direct || file.#recovery) return undefined;
      used.set(file, file.#descriptor);
      ranges.push({ a: file.#descriptor.fd, atA: from, atB: offset, bytes });
    }
    for (const descriptor of used.values()) descriptor.acquire();
    const working = body(this.#descriptor.fd, ranges);
    const release = (): void => used.forEach((descriptor) => descriptor.release());
    if (!working) release();
    return working?.finally(release);
  }

  async #readBounced(buffer: Uint8Array, offset: number): Promise<number> {
    let done = 0;
    await this.#bounce.transfer(buffer.byteLength, async (aligned, start) => {
      const count = await this.#read(aligned, offset + start);
      buffer.set(aligned.subarray(0, count), start);
      done += count;
      return count < aligned.byteLength ? "end" : "more";
    });
    return done;
  }

  #read(buffer: Uint8Array, offset: number): Answer<number> {
    const used = this.#descriptor.acquire();
    let reading: Answer<number>;
    try {
      reading = this.#transfers.read(this.#transfer(used, buffer, offset));
    } catch (error) {
      used.release();
      throw error;
    }
    if (isPromise(reading)) return reading.finally(() => used.release());
    used.release();
    return reading;
  }

  #transfer({ fd }: Descriptor, buffer: Uint8Array, offset: number): TransferRequest {
    return { fd, lane: this.#lane, buffer, offset, alignment: this.alignment };
  }

  #writeAll(buffer: Uint8Array, offset: number): Answer<void> {
    const used = this.#descriptor.acquire();
    const { byteLength } = buffer;
    let writing: Answer<void>;
    try {
      writing = this.#transfers.write(this.#transfer(used, buffer, offset));
    } catch (error) {
      this.#wrote(used, offset, byteLength);
      throw error;
    }
    if (isPromise(writing)) return writing.finally(() => this.#wrote(used, offset, byteLength));
    this.#wrote(used, offset, byteLength);
  }

  /** After a write, which may have failed half-way. */
  #wrote(used: Descriptor, offset: number, bytes: number): void {
    this.#extents.written(offset, offset + bytes);
    if (!this.#direct) this.#unflushed.add(offset, bytes);
    used.release();
  }

  async flush(): Promise<void> {
    this.#checkLost();
    const covered = this.#unflushed.take();
    try {
      await this.#call("flush", (fd) => ({ call: "fdatasync", fd }));
      // One that was under way together with a failed one says nothing of what that lost.
      this.#checkLost();
    } catch (error) {
      this.#unflushed.merge(covered);
      if (!this.#direct) this.#lost ??= error as BlockError;
      throw error;
    }
  }

  async recover(): Promise<boolean> {
    if (!this.#lost) return false;
    this.#recovery ??= this.#recover().finally(() => (this.#recovery = undefined));
    return this.#recovery;
  }

  async #recover(): Promise<boolean> {
    await this.#openAnew(this.#write);
    this.#extents.forget();
    const { fd } = this.#descriptor;
    const target = { fd, lane: this.#lane, alignment: this.alignment };
    for (const range of this.#unflushed.ranges())
      await rewrite(this.#transfers, target, { ...range, extents: this.#extents });
    await this.#lane.make({ call: "fdatasync", fd }, "flush");
    this.#unflushed.take();
    this.#lost = undefined;
    return true;
  }

  /** Whether it has succeeded is no matter of who only waits for it. */
  async #afterRecovery(): Promise<void> {
    await this.#recovery?.catch(() => undefined);
  }

  #checkLost(): void {
    if (this.#lost) throw blockError(this.#lost.code, "flush");
  }

  async size(): Promise<number> {
    return contentBytes(await this.#facts());
  }

  async allocatedBytes(): Promise<number | undefined> {
    return Number((await this.#facts()).blocks) * 512;
  }

  async truncate(size: number, preallocation: "off" | "falloc" | "full" = "off"): Promise<void> {
    await this.#afterRecovery();
    const wasEmpty = (await this.size()) === 0;
    const used = this.#descriptor.acquire();
    try {
      const { fd } = used;
      const how = { preallocation, native: this.#native, alignment: this.alignment };
      await resizeFile({ fd, lane: this.#lane, size, ...how });
    } finally {
      this.#extents.forget();
      used.release();
    }
    if (wasEmpty && preallocation === "off") await this.#allocateFirstBlock(size);
  }

  /**
   * Allocates the start of a file that was empty, as QEMU does: from it O_DIRECT's alignment can be told. A failure is not one of
   * the new length.
   */
  async #allocateFirstBlock(size: number): Promise<void> {
    const bytes = size < FIRST_BLOCK_BYTES ? Math.min(size, SECTOR_SIZE) : FIRST_BLOCK_BYTES;
    try {
      if (bytes > 0) await this.write(new Uint8Array(bytes), 0);
    } catch {
      // Only what can be told of the file is lost.
    }
  }

  punchHole(offset: number, bytes: number): Promise<void> {
    return this.#fallocate(Fallocate.punchHole | Fallocate.keepSize, offset, bytes, "pdiscard");
  }

  zeroRange(offset: number, bytes: number): Promise<void> {
    return this.#fallocate(Fallocate.zeroRange, offset, bytes, "pwriteZeroes");
  }

  extentAt(offset: number): Answer<FileExtent | undefined> {
    const used = this.#descriptor.acquire();
    return ending(
      () =>
        rescue(
          () => this.#extents.find(used.fd, offset),
          (error) => {
            // Nothing can be told while the pool is jammed.
            if (isUnsupported(error)) return undefined;
            throw nodeError(error, "blockStatus");
          },
        ),
      () => used.release(),
    );
  }

  lock(request: FileLockRequest): Promise<void> {
    try {
      this.#lock.change(this.#descriptor.fd, request);
      this.#extents.setExclusive((request.shared & SHARES_WRITING) === 0);
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(nodeError(error, "lock"));
    }
  }

  async setWritable(write: boolean): Promise<void> {
    await this.#afterRecovery();
    if (write === this.#write) return;
    await this.#openAnew(write);
    this.#write = write;
  }

  /** Goes on with a new descriptor; requests that use the old one have ended when it resolves. */
  async #openAnew(write: boolean): Promise<void> {
    const old = this.#descriptor;
    const reopened = new Descriptor(await this.#reopen(write), this.#lane);
    try {
      this.#lock.copyTo(reopened.fd);
    } catch (error) {
      await reopened.close();
      throw error;
    }
    this.#descriptor = reopened;
    await old.close(this.#lock);
  }

  /** Its descriptor, if its bytes lie in memory: nobody waits for a disk who has the kernel move them. */
  get fdInMemory(): number | undefined {
    return this.#transfers === memoryTransfers ? this.#descriptor.fd : undefined;
  }

  /** Whether this process has the file open under another descriptor, too. */
  get isOpenElsewhere(): boolean {
    return this.#entry.isOpenElsewhere;
  }

  async info(): Promise<FileInfo> {
    return fileInfo(await this.#facts(), () => this.#path);
  }

  close(): Promise<void> {
    return this.#descriptor.close(this.#lock).finally(() => this.#entry.leave());
  }

  /** Opens the very same file again: by its descriptor where /proc has it, else by name if that still means it. */
  async #reopen(write: boolean): Promise<number> {
    const flags = openFlags({ write, direct: this.#direct });
    const alias = `/proc/self/fd/${this.#descriptor.fd}`;
    // Not what it leads to, for which a disk would be asked.
    const isOfSet = isFdSetName(this.#path);
    const byDescriptor = !isOfSet && process.platform === "linux" && fs.existsSync("/proc/self/fd");
    const fd = await openDescriptor(byDescriptor ? alias : this.#path, flags, "open", this.#lane).catch(
      (error: BlockError) => Promise.reject(this.#openError(error)),
    );
    if (byDescriptor || isOfSet) return fd;
    const now = (await this.#lane.make({ call: "fstat", fd }, "open")) as FileFacts;
    const before = await this.#facts();
    if (now.ino === before.ino && now.dev === before.dev) return fd;
    await new Descriptor(fd, this.#lane).close();
    throw this.#openError(blockError("ESTALE", "open"));
  }

  #openError(error: BlockError): BlockError {
    const message = `Could not open '${this.#path}': ${error.message}`;
    return new BlockError({ code: error.code, op: "open", message, cause: error });
  }

  async #fallocate(mode: number, offset: number, bytes: number, op: string): Promise<void> {
    if (!this.#native) throw blockError("ENOTSUP", op);
    await this.#afterRecovery();
    const used = this.#descriptor.acquire();
    try {
      const native = this.#native;
      const run = (): Promise<number> => native.fallocate(used.fd, mode, offset, bytes);
      const result = (await this.#lane.make({ call: "native", run }, op)) as number;
      if (result < 0) throw fallocateError(-result, op);
    } finally {
      this.#extents.forget();
      used.release();
    }
  }

  async #facts(): Promise<FileFacts> {
    return (await this.#call("stat", (fd) => ({ call: "fstat", fd }))) as FileFacts;
  }

  async #call(op: string, call: (fd: number) => FileCall): Promise<FileAnswer> {
    const used = this.#descriptor.acquire();
    try {
      return await this.#lane.make(call(used.fd), op);
    } finally {
      used.release();
    }
  }
}
