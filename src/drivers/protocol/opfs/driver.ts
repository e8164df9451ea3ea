/**
 * A disk in the browser's private file system: the driver's hooks over a cluster store. Reads are one synchronous call.
 *
 * Invariants: under durability `strict` a change completes when it is durable, and changes that are made in one turn
 * share a commit; under `interval` it completes when the browser has it, and is durable after flush(), or after the
 * interval if nobody flushes. A commit that fails is tried again by the next one, and told by the next flush; after a failed
 * flush all fail until recover(), and no request begins while that is done.
 */
import type { Answer } from "../../../base/answer.ts";
import { BlockError, blockError, errnoOf } from "../../../base/errors.ts";
import type { Clock, PrivateDirectory } from "../../../base/host.ts";
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import { type BlockDriver, type BlockStatus, Req, type RequestFlags } from "../../../block/model/contract.ts";
import type { TruncateOptions } from "../../../block/model/contract.ts";
import type { NodeView } from "../../../block/model/contract.ts";
import type { ClusterStore } from "./store.ts";

/** What the driver is made of. */
export interface OpfsInit {
  node: NodeView;
  clock: Clock;
  directory: PrivateDirectory;
  store: ClusterStore;
  /** Milliseconds after which a change is durable without a flush; undefined: it is before it completes. */
  intervalMs: number | undefined;
}

/** An open disk. */
export class OpfsDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #clock: Clock;
  readonly #directory: PrivateDirectory;
  readonly #store: ClusterStore;
  readonly #intervalMs: number | undefined;
  #shared: Promise<void> | undefined;
  #stopTimer: (() => void) | undefined;
  #recovery: Promise<boolean> | undefined;

  constructor(init: OpfsInit) {
    this.#node = init.node;
    this.#clock = init.clock;
    this.#directory = init.directory;
    this.#store = init.store;
    this.#intervalMs = init.intervalMs;
  }

  /** In whole sectors, as QEMU has it; what the last one lacks reads as zeroes. */
  length(): number {
    return alignUp(this.#store.size, SECTOR_SIZE);
  }

  pread(offset: number, buffer: Uint8Array): Answer<void> {
    if (this.#recovery) return this.#afterRecovery(() => this.pread(offset, buffer));
    return this.#store.read(offset, buffer);
  }

  pwrite(offset: number, buffer: Uint8Array): Answer<void> {
    if (this.#recovery) return this.#afterRecovery(() => this.pwrite(offset, buffer));
    this.#store.write(offset, buffer);
    return this.#changed();
  }

  pwriteZeroes(offset: number, bytes: number, flags: RequestFlags): Answer<void> {
    if (this.#recovery) return this.#afterRecovery(() => this.pwriteZeroes(offset, bytes, flags));
    this.#store.zero(offset, bytes, { free: (flags & Req.mayUnmap) !== 0 });
    return this.#changed();
  }

  pdiscard(offset: number, bytes: number): Answer<void> {
    if (this.#recovery) return this.#afterRecovery(() => this.pdiscard(offset, bytes));
    const within = Math.min(bytes, this.#store.size - offset);
    if (within <= 0) return undefined;
    this.#store.zero(offset, within, { free: true });
    return this.#changed();
  }

  flush(): Answer<void> {
    return this.#recovery ? this.#afterRecovery(() => this.#commit()) : this.#commit();
  }

  recover(): Promise<boolean> {
    this.#recovery ??= this.#recover().finally(() => (this.#recovery = undefined));
    return this.#recovery;
  }

  async #recover(): Promise<boolean> {
    try {
      return await this.#store.recover(this.#directory);
    } catch (error) {
      throw new BlockError({ code: errnoOf(error), op: "flush", node: this.#node.name, cause: error });
    }
  }

  /** Whether it has succeeded is no matter of who only waits for it. */
  async #afterRecovery(call: () => Answer<void>): Promise<void> {
    await this.#recovery?.catch(() => false);
    return call();
  }

  blockStatus(offset: number, bytes: number): BlockStatus {
    const status = this.#store.status(offset, bytes);
    const map = { node: this.#node, offset };
    return { bytes: status.bytes, data: status.held, zero: !status.held, allocated: true, map };
  }

  async truncate(size: number, { preallocation }: TruncateOptions): Promise<void> {
    if (preallocation !== "off") {
      throw blockError("ENOTSUP", "truncate", `Unsupported preallocation mode: ${preallocation}`);
    }
    await this.#afterRecovery(() => this.#store.truncate(size));
    await this.#changed();
  }

  async allocatedBytes(): Promise<number> {
    return this.#store.storedBytes;
  }

  hasZeroInit(): boolean {
    return true;
  }

  /** Reports what could not be made durable; everything is closed all the same. */
  async close(): Promise<void> {
    try {
      if (!this.#node.readOnly) await this.flush();
    } finally {
      this.#stopTimer?.();
      this.#store.close();
      this.#directory.close();
    }
  }

  /** What comes after every change: see the file's head. */
  #changed(): Promise<void> | undefined {
    if (this.#intervalMs === undefined) return (this.#shared ??= this.#commitInTurn());
    this.#stopTimer ??= this.#clock.timer(this.#intervalMs, () => this.#commitByTimer());
    return undefined;
  }

  async #commitInTurn(): Promise<void> {
    await this.#clock.turn();
    this.#shared = undefined;
    await this.flush();
  }

  #commitByTimer(): void {
    this.#stopTimer = undefined;
    try {
      if (this.#recovery) throw blockError("EAGAIN", "flush");
      this.#commit();
    } catch {
      // The store still has the change; whoever flushes next is told if it fails again.
      this.#stopTimer ??= this.#clock.timer(this.#intervalMs!, () => this.#commitByTimer());
    }
  }

  #commit(): void {
    try {
      this.#store.commit();
    } catch (error) {
      throw new BlockError({ code: errnoOf(error), op: "flush", node: this.#node.name, cause: error });
    }
    this.#stopTimer?.();
    this.#stopTimer = undefined;
  }
}
