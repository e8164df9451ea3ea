/**
 * A disk for v86: the interface that its drives use, over a GuestDisk.
 *
 * Invariants: a read sees every write that v86 issued before it; writes reach the disk one after the other, in order; what
 * v86 hands over is copied before set() returns; an answer to a command that the guest has given up is never passed on. A
 * failed request that cannot be told to the guest stops the machine and is tried again when it goes on: no write is lost.
 * Every failure is published as BLOCK_IO_ERROR; a broken invariant stops the machine and ends the disk: nothing is tried
 * again, and every further call throws it.
 * Source: the interface that v86's drives call (0.5.424 … 0.5.462), as observed.
 */
import { type Answer } from "../../base/answer.ts";
import { AssertionError } from "../../base/assert.ts";
import type { Errno } from "../../base/errno.ts";
import { blockError, errnoOf, messageOf } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { isAligned } from "../../base/ranges.ts";
import type { GuestDisk } from "../guest-disk.ts";
import type { GuestFailure } from "../machine.ts";
import { EmulatorLink, type V86Emulator } from "./emulator.ts";
import { type IdeCommand, IdePort } from "./ide.ts";
import { type DiskState, savedParts } from "./state.ts";

const SECTOR_BYTES = 512;
/** v86's drives count sectors by 32 bits. */
const MAX_BYTES = 2 ** 32 * SECTOR_BYTES;

const NO_BYTES = new Uint8Array(0);

/** A read or write that v86 waits for. */
interface Command {
  readonly ide: IdeCommand | undefined;
  /** The guest has given it up. */
  stale: boolean;
}

/** The generation could not be kept: a failed write that the device knows nothing of. */
class KeeperError extends Error {
  readonly code: Errno;

  constructor(cause: unknown) {
    super(messageOf(cause), { cause });
    this.code = errnoOf(cause);
  }
}

/** How a V86Disk is made. */
export interface V86DiskInit {
  disk: GuestDisk;
  state: DiskState;
}

/** The disk; give it to v86's constructor as hda, hdb or cdrom, and attach the emulator right after. */
export class V86Disk {
  /** Bytes. */
  readonly byteLength: number;
  /** Set by v86. */
  onload: ((event: object) => void) | undefined = undefined;
  /** Set by v86; never called. */
  onprogress: ((event: object) => void) | undefined = undefined;
  readonly #disk: GuestDisk;
  readonly #state: DiskState;
  #emulator: V86Emulator | undefined;
  #link: EmulatorLink | undefined;
  #ide: IdePort | undefined;
  /** Requests of v86 that have no answer yet. */
  #pending = 0;
  #pendingBytes = 0;
  /** The last write's end, if one is under way; never rejects. */
  #writes: Promise<void> | undefined;
  #newestWrite: Command | undefined;
  #firstSector: Uint8Array | undefined;
  #scratch = NO_BYTES;
  #closed = false;
  /** An invariant of ours did not hold: the disk is not used any more. */
  #broken: AssertionError | undefined;

  /** Throws EINVAL for a length that v86 cannot address. Made by toV86Disk(). */
  constructor(init: V86DiskInit) {
    this.#disk = init.disk;
    this.#state = init.state;
    this.byteLength = init.disk.length;
    if (isAligned(this.byteLength, SECTOR_BYTES) && this.byteLength > 0 && this.byteLength <= MAX_BYTES)
      return;
    const message = `v86 takes disks of whole sectors, up to 2 TiB; this one has ${this.byteLength} bytes`;
    throw blockError("EINVAL", "v86", message);
  }

  /**
   * Ties the disk to the emulator that it was given to: errors, `stop` and `cont` then reach it. To be called right after
   * the constructor of V86, and once.
   */
  attach(emulator: V86Emulator): void {
    if (this.#emulator) throw blockError("EINVAL", "v86", "the disk is attached to an emulator already");
    this.#emulator = emulator;
    this.#link = EmulatorLink.join(emulator, this.#disk.machine, this);
  }

  /** Whether failed requests can be told to the guest: in builds of v86 that let its drives be reached. Known once the emulator has started. */
  get canReportErrors(): boolean {
    return this.#port() !== undefined;
  }

  /** Why the disk can't be used any more, if its worker has gone; the emulator has been stopped then. */
  get lost(): Error | undefined {
    return this.#disk.machine.lost;
  }

  /** The last request that failed or missed its deadline, with the cause in words: why the emulator stands still. */
  get lastFailure(): GuestFailure | undefined {
    return this.#disk.lastFailure;
  }

  /** Calls `listener` with each such request, before the emulator is stopped for it, until the returned function is called. */
  watchFailures(listener: (failure: GuestFailure) => void): () => void {
    return this.#disk.watchFailures?.(listener) ?? (() => undefined);
  }

  /** Requests of v86 wait. */
  get busy(): boolean {
    return this.#pending > 0;
  }

  /**
   * Waits for the writes that v86 has issued, and makes them durable: before save_state(), the emulator being stopped.
   * While the machine does not run, writes that wait for it stay where they are; then it rejects with EBUSY.
   */
  async sync(): Promise<void> {
    while (this.#writes && this.#disk.machine.isRunning) await this.#writes;
    this.#checkWhole();
    await this.#disk.flush();
    if (this.#writes) throw blockError("EBUSY", "sync", "writes wait for the machine to run");
  }

  /** After the emulator's end: waits for writes, unless the machine stands still, and takes the disk out of the machine. */
  async close(): Promise<void> {
    while (this.#writes && this.#disk.machine.isRunning) await this.#writes;
    this.#closed = true;
    this.#link?.leave(this);
    this.#link = undefined;
    await this.#disk.close();
    this.#checkWhole();
  }

  #checkWhole(): void {
    if (this.#broken) throw this.#broken;
  }

  // What v86 calls.

  load(): void {
    this.onload?.({});
  }

  /** Reads; `done` gets exactly `length` bytes, or is never called if the guest gives up or is told an error. */
  get(
    start: number,
    length: number,
    done: (data: Uint8Array) => void,
    options?: { signal?: AbortSignal },
  ): void {
    const issued = this.#issue(start, length, options?.signal);
    if (issued instanceof Uint8Array) {
      this.#newestWrite = undefined;
      return done(issued);
    }
    this.#begin(0);
    const command = { ide: this.#port()?.read(), stale: false };
    void this.#read({ start, length, done, command, signal: options?.signal, issued });
  }

  /** Writes a copy of `data`; `done` is called when the disk has it. */
  set(start: number, data: Uint8Array, done: () => void): void {
    this.#begin(data.byteLength);
    const command: Command = { ide: this.#port()?.write(), stale: false };
    this.#newestWrite = command;
    if (start < SECTOR_BYTES) this.#firstSector = undefined;
    const write = this.#write({ start, data: data.slice(), done, command, after: this.#writes });
    this.#writes = write;
    void write.then(() => {
      if (this.#writes === write) this.#writes = undefined;
    });
  }

  /** As get(), and keeps the first sector for get_from_cache(). */
  get_and_cache(start: number, length: number, done: (data: Uint8Array) => void): void {
    this.get(start, length, (data) => {
      if (start === 0 && length >= SECTOR_BYTES) this.#firstSector = data.slice(0, SECTOR_BYTES);
      done(data);
    });
  }

  /** The bytes, if they are of the first sector and at hand. */
  get_from_cache(start: number, length: number): Uint8Array | undefined {
    if (start < 0 || start + length > SECTOR_BYTES) return undefined;
    return this.#firstSector?.slice(start, start + length);
  }

  /** v86's old way to get a whole image; there is none. */
  get_buffer(done: (buffer?: ArrayBuffer) => void): void {
    done();
  }

  /** For save_state(): which disk it is, and the generation of its content. Throws EBUSY while writes are under way. */
  get_state(): (string | number)[] {
    if (!this.#writes) return this.#state.hand();
    const message = "writes are under way: stop the emulator and await sync() before save_state()";
    throw blockError("EBUSY", "save", message);
  }

  /**
   * Whether a state of save_state() goes with the disk as it is now: to be asked before restore_state(), which has changed
   * processor and devices before the disk can refuse. Throws EINVAL for what is no such state, ENOTSUP for a compressed one.
   */
  accepts(state: ArrayBuffer | Uint8Array): boolean {
    return savedParts(state).some((part) => this.#state.isOf(part));
  }

  /**
   * For restore_state(): throws for the state of another disk (EINVAL) or of another content (ESTALE), and stops the machine,
   * which is half of the one and half of the other then: a new emulator is needed.
   */
  set_state(state: unknown): void {
    try {
      this.#state.check(state);
    } catch (error) {
      this.#link?.hold();
      void this.#disk.machine.stop("paused").catch(() => undefined);
      throw error;
    }
  }

  /** Here for v86's type V86Image only. v86 reads it where it takes no disk objects (set_cdrom(), set_fda()); then it throws. */
  get buffer(): ArrayBuffer {
    throw blockError("ENOTSUP", "v86", "v86 takes this disk only as hda, hdb or cdrom of its constructor");
  }

  // The rest is private.

  /** Reads unless writes must come first. What is there at once lies in a buffer that is good until the next read: v86 copies within the call. */
  #issue(start: number, length: number, signal: AbortSignal | undefined): Answer<Uint8Array> | undefined {
    if (!this.#emulator || this.#writes || this.#broken) return undefined;
    // Most of a guest's requests have one length: what a view costs counts beside a read of 3 µs.
    const into = this.#scratch.byteLength === length ? this.#scratch : new Uint8Array(length);
    const reading = this.#disk.read(start, length, { signal, into });
    // A read under way keeps the buffer.
    this.#scratch = reading instanceof Uint8Array ? into : NO_BYTES;
    return reading;
  }

  /** A request came in. One command at a time: a write whose answer is still open was given up by the guest. */
  #begin(writtenBytes: number): void {
    this.#checkWhole();
    if (!this.#emulator)
      throw blockError("EINVAL", "v86", "attach(emulator) must be called before the emulator uses the disk");
    if (this.#newestWrite) this.#newestWrite.stale = true;
    this.#newestWrite = undefined;
    this.#pending += 1;
    this.#pendingBytes += writtenBytes;
    if (this.#pendingBytes > limits.v86MaxPendingBytes) this.#link?.hold();
  }

  #end(writtenBytes: number): void {
    this.#pending -= 1;
    this.#pendingBytes -= writtenBytes;
    if (this.#pending === 0) this.#link?.release();
  }

  async #read(request: {
    start: number;
    length: number;
    done: (data: Uint8Array) => void;
    command: Command;
    signal: AbortSignal | undefined;
    issued: Promise<Uint8Array> | undefined;
  }): Promise<void> {
    const { start, length, done, command, signal } = request;
    let { issued } = request;
    let data: Uint8Array | undefined;
    try {
      data = await this.#attempt(command, signal, async () => {
        const first = issued;
        issued = undefined;
        if (first) return first;
        while (this.#writes) await this.#writes;
        return this.#disk.read(start, length, { signal });
      });
    } finally {
      this.#end(0);
    }
    if (this.#closed || this.#broken) return;
    // A drive that was told an error, or reset, only drops its entry for the request.
    done(data ?? new Uint8Array(0));
  }

  async #write(request: {
    start: number;
    data: Uint8Array;
    done: () => void;
    command: Command;
    after: Promise<void> | undefined;
  }): Promise<void> {
    const { start, data, done, command, after } = request;
    const bytes = data.byteLength;
    await after;
    const written = await this.#attempt(command, undefined, async () => {
      await this.#keepGeneration();
      await this.#disk.write(start, data);
      return true;
    });
    this.#end(bytes);
    if (this.#newestWrite === command) this.#newestWrite = undefined;
    if (!written || command.stale) return;
    command.ide?.finish();
    done();
  }

  /** Tries until it works or the guest is told; undefined if it was told or has given up. Never rejects. */
  async #attempt<T>(
    command: Command,
    signal: AbortSignal | undefined,
    work: () => Promise<T>,
  ): Promise<T | undefined> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (signal?.aborted || this.#closed) return undefined;
        if (error instanceof AssertionError) {
          this.#broken = error;
          await this.#disk.machine.stop("io-error");
          return undefined;
        }
        // Without its worker the guest is told nothing: it would give the disk up. It stands still.
        const told = !this.#disk.machine.lost && !command.stale && (command.ide?.fail() ?? false);
        // A failure of the disk has been published by the device.
        if (error instanceof KeeperError) this.#disk.publish?.(error.code, told ? "report" : "stop");
        if (told) return undefined;
        await this.#untilNextRun();
      }
    }
  }

  /** Before the content changes its generation is kept, outside of the disk. */
  async #keepGeneration(): Promise<void> {
    try {
      await this.#state.changing();
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      throw new KeeperError(error);
    }
  }

  /** Stops the machine, for an error that its own policy would have told the guest, and waits until it runs again. */
  async #untilNextRun(): Promise<void> {
    const { machine } = this.#disk;
    const resumed = new Promise<void>((resolve) => {
      const unwatch = machine.watch((running) => {
        if (!running) return;
        unwatch();
        resolve();
      });
    });
    await machine.stop("io-error");
    await resumed;
  }

  #port(): IdePort | undefined {
    this.#ide ??= this.#emulator && IdePort.find(this.#emulator, this);
    return this.#ide;
  }
}
