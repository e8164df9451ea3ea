/**
 * The one register of the image files that this process has open, by what they are and not by their names, whichever engine
 * opened them. It keeps a program from emptying its own files, and it stands in for image locks among a process's own files
 * where the platform has none (koffi is not installed), by the same rules and in the same words.
 *
 * Invariant: an entry is in the register from its file's opening to its closing; entries of one identity that hold
 * permissions never conflict where they were taken by `change`.
 */
import * as path from "node:path";
import type { FileLockRequest } from "../../base/host.ts";
import type { FileFacts } from "./calls.ts";
import { conflictError, lockNames, unlocked } from "./image-lock.ts";

/** By identity, all that is open. */
const register = new Map<string, Set<OpenFile>>();

/** Device and inode; where a file system has none, the canonical path and the size. */
export function identityOf({ dev, ino, size }: FileFacts, realPath: () => string): string {
  return ino === 0n ? `${path.resolve(realPath())}:${size}` : `${dev}:${ino}`;
}

/** One open file. */
export class OpenFile {
  readonly identity: string;
  readonly #path: string;
  #held: FileLockRequest = unlocked;

  /** Enters the register. */
  constructor(identity: string, name: string) {
    this.identity = identity;
    this.#path = name;
    const same = register.get(identity);
    if (same) same.add(this);
    else register.set(identity, new Set([this]));
  }

  /** Whether this process has the same file open a second time. */
  get isOpenElsewhere(): boolean {
    return (register.get(this.identity)?.size ?? 0) > 1;
  }

  /** Takes permissions among this process's own files; on a conflict throws EAGAIN and keeps what was held. */
  change(_fd: number, wanted: FileLockRequest): void {
    for (const other of register.get(this.identity) ?? []) {
      if (other !== this) this.#check(other.#held, wanted);
    }
    this.#held = wanted;
  }

  /** Nothing: the entry outlives the descriptor that it began with. */
  copyTo(): void {}

  release(): void {}

  /** The file is closed. */
  leave(): void {
    const same = register.get(this.identity);
    same?.delete(this);
    if (same?.size === 0) register.delete(this.identity);
  }

  #check(held: FileLockRequest, wanted: FileLockRequest): void {
    lockNames.forEach((name, bit) => {
      if (wanted.perm & ~held.shared & (1 << bit))
        throw conflictError(this.#path, "EAGAIN", `Failed to get "${name}" lock`);
    });
    lockNames.forEach((name, bit) => {
      if (held.perm & ~wanted.shared & (1 << bit))
        throw conflictError(this.#path, "EAGAIN", `Failed to get shared "${name}" lock`);
    });
  }
}

/** Whether this process has a file of that identity open. */
export function isOpenHere(identity: string): boolean {
  return register.has(identity);
}
