/**
 * Objects: named runs of bytes that are made whole and do not change, as a directory or an object store keeps them. What is
 * built on them needs no lock: who comes second sees what the first has made.
 */

/** What is known of an object without reading it. */
export interface ObjectInfo {
  /** Words of letters, digits, `-`, `_` and `.`, joined by slashes. */
  readonly name: string;
  readonly bytes: number;
  /** When it was made or put last, by the clock of whoever keeps it; milliseconds since 1970. */
  readonly changedMs: number;
}

/** Where objects are kept. Errors are BlockErrors: ENOENT, ENOSPC, EACCES, EIO … */
export interface ObjectStore {
  /** Makes an object, durable when it resolves; nobody ever sees a part of it. False: there is one of that name, which stays. */
  putIfAbsent(name: string, bytes: Uint8Array): Promise<boolean>;
  /** Makes an object or takes another's place, whole or not at all. */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** The bytes of a range, fewer at the end; without one all. ENOENT. */
  get(name: string, range?: { offset: number; bytes: number }): Promise<Uint8Array>;
  /**
   * The objects whose names begin with `prefix`, which ends with a slash, by name. `isAsked`: of others the name is enough; where facts
   * cost something, their `bytes` and `changedMs` are 0.
   */
  list(prefix: string, isAsked?: (name: string) => boolean): Promise<ObjectInfo[]>;
  /** Removes an object; one that is not there is no error. */
  remove(name: string): Promise<void>;
}

/** Objects of one owner, from the root of a place. */
export interface ObjectPlace extends ObjectStore {
  /** False: of two that make an object at one moment both may be told that they did. */
  readonly isExclusive?: boolean;
  /** Whether nothing is there. */
  isEmpty(): Promise<boolean>;
  /** Removes what programs that were killed while they put an object have left. */
  sweep(): Promise<void>;
}
