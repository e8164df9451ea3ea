/**
 * Image locks, compatible with QEMU's: byte 100 + bit is locked for each permission taken, byte 200 + bit for each one
 * that is not shared. Every lock is a shared (read) OFD lock; a conflict is found by asking afterwards whether another
 * open file holds the opposite byte, so two users that lock at once may both fail but never both win.
 * Source: QEMU's documented lock bytes of file-posix and the behaviour of 7.2.
 */
import { BlockError } from "../../base/errors.ts";
import { type Errno, errnoFromNumber } from "../../base/errno.ts";
import type { FileLockRequest } from "../../base/host.ts";
import type { NativeCalls } from "./native.ts";

const TAKEN_BASE = 100;
const UNSHARED_BASE = 200;
const ALL = 15;

/** Bit index → QEMU's name of the permission. */
export const lockNames = ["consistent read", "write", "write unchanged", "resize"] as const;

/** The state before anything is locked. */
export const unlocked: FileLockRequest = { perm: 0, shared: ALL };

/** What takes and gives back permissions on an open file, so that its users don't conflict. All calls are synchronous. */
export interface FileLock {
  /** Changes from what is held to `wanted`; on a conflict throws EAGAIN and keeps what was held. */
  change(fd: number, wanted: FileLockRequest): void;
  /** Takes what is held on another open file of the same image too, before it replaces this one. */
  copyTo(fd: number): void;
  /**
   * Gives back what is held on an open file that is closed right after. Closing alone would not: a process that is being started at that
   * moment has the file, too, until it is another program.
   */
  release(fd: number): void;
}

/** The locks of one open file, seen by all processes. */
export class ImageLock implements FileLock {
  readonly #native: NativeCalls;
  readonly #path: string;
  #held: FileLockRequest = unlocked;

  constructor(native: NativeCalls, path: string) {
    this.#native = native;
    this.#path = path;
  }

  /** What is locked now. */
  get held(): FileLockRequest {
    return this.#held;
  }

  /** Changes from what is held to `wanted`; on a conflict throws EAGAIN and keeps what was held. */
  change(fd: number, wanted: FileLockRequest): void {
    const before = this.#held;
    const union = { perm: before.perm | wanted.perm, shared: before.shared & wanted.shared };
    // Who takes nothing new has asked before. A chain asks each of its files again for every layer that is opened on it.
    if (union.perm !== before.perm || union.shared !== before.shared) {
      try {
        this.#apply(fd, before, union);
        this.#check(fd, wanted);
      } catch (error) {
        this.#apply(fd, union, before);
        throw error;
      }
    }
    this.#apply(fd, union, wanted);
    this.#held = wanted;
  }

  /** Takes what is held on another open file of the same image too, before it replaces this one. */
  copyTo(fd: number): void {
    this.#apply(fd, unlocked, this.#held);
  }

  release(fd: number): void {
    this.#apply(fd, this.#held, unlocked);
  }

  #apply(fd: number, from: FileLockRequest, to: FileLockRequest): void {
    for (let bit = 0; bit < lockNames.length; bit++) {
      const mask = 1 << bit;
      this.#setByte(fd, TAKEN_BASE + bit, (from.perm & mask) !== 0, (to.perm & mask) !== 0);
      this.#setByte(fd, UNSHARED_BASE + bit, (from.shared & mask) === 0, (to.shared & mask) === 0);
    }
  }

  #setByte(fd: number, offset: number, from: boolean, to: boolean): void {
    if (from === to) return;
    const result = this.#native.lockByte(fd, offset, to ? "shared" : "none");
    if (result >= 0) return;
    if (to) throw this.#conflict(-result, `Failed to lock byte ${offset}`);
  }

  #check(fd: number, { perm, shared }: FileLockRequest): void {
    lockNames.forEach((name, bit) => {
      if (perm & (1 << bit)) this.#checkByte(fd, UNSHARED_BASE + bit, `Failed to get "${name}" lock`);
    });
    lockNames.forEach((name, bit) => {
      if (!(shared & (1 << bit)))
        this.#checkByte(fd, TAKEN_BASE + bit, `Failed to get shared "${name}" lock`);
    });
  }

  #checkByte(fd: number, offset: number, message: string): void {
    const result = this.#native.isByteLocked(fd, offset);
    if (result === 0) return;
    throw this.#conflict(result > 0 ? 11 : -result, message);
  }

  #conflict(errno: number, message: string): BlockError {
    return conflictError(this.#path, errnoFromNumber(errno), message);
  }
}

/** QEMU's message, with its hint. */
export function conflictError(path: string, code: Errno, message: string): BlockError {
  const details = { hint: `Is another process using the image [${path}]?` };
  return new BlockError({ code, op: "lock", message, details });
}
