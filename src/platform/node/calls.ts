/**
 * The calls on files that may wait for a disk, as data: made on Node's thread pool (lanes.ts) or by a thread of its own
 * (lane-thread.ts). Both give the same answers.
 */

/** What is known of a file, of fstat or stat. */
export interface FileFacts {
  mode: bigint;
  size: bigint;
  /** Of 512 bytes. */
  blocks: bigint;
  dev: bigint;
  ino: bigint;
  /** Which device a device's file stands for. */
  rdev: bigint;
  nlink: bigint;
  uid: bigint;
  gid: bigint;
  /** When the content, and when anything of it, was changed last, nanoseconds since 1970. */
  mtimeNs: bigint;
  ctimeNs: bigint;
}

/** A call by name with its arguments. Reads fill, and writes take, `bytes` of `buffer` from `at` on. */
export type FileCall =
  | { call: "read" | "write"; fd: number; buffer: Uint8Array; at: number; bytes: number; position: number }
  | { call: "fdatasync" | "fsync" | "close" | "fstat"; fd: number }
  | { call: "ftruncate"; fd: number; size: number }
  | { call: "open"; path: string; flags: number; mode: number }
  | { call: "stat" | "lstat" | "unlink" | "realpath"; path: string }
  | { call: "rename"; path: string; to: string }
  | { call: "chmod"; path: string; mode: number }
  | { call: "chown"; path: string; uid: number; gid: number }
  /** A native function, which has no second way. */
  | { call: "native"; run: () => Promise<number> };

/** What a call answers: a count, a descriptor, the facts of a file, a path, nothing. */
export type FileAnswer = number | string | FileFacts | undefined;

/** Told once, perhaps at once. */
export type Answered = (error: Error | null, answer?: FileAnswer) => void;
