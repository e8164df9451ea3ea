/**
 * The calls on files that may wait for a disk, each in two ways: on Node's thread pool, and as data for a thread of its own
 * (see lane-thread.ts). Both give the same answers.
 */
import * as fs from "node:fs";

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

/** Makes a call on the pool. Throws for arguments that Node refuses. */
export function callOnPool(call: FileCall, answered: Answered): void {
  const facts = (error: Error | null, stats?: fs.BigIntStats): void => answered(error, stats);
  switch (call.call) {
    case "read":
      return fs.read(call.fd, call.buffer, call.at, call.bytes, call.position, answered);
    case "write":
      return fs.write(call.fd, call.buffer, call.at, call.bytes, call.position, answered);
    case "fstat":
      return fs.fstat(call.fd, { bigint: true }, facts);
    case "stat":
    case "lstat":
      return fs[call.call](call.path, { bigint: true }, facts);
    case "open":
      return fs.open(call.path, call.flags, call.mode, answered);
    case "ftruncate":
      return fs.ftruncate(call.fd, call.size, answered);
    case "unlink":
      return fs.unlink(call.path, answered);
    case "realpath":
      return fs.realpath(call.path, answered);
    case "rename":
      return fs.rename(call.path, call.to, answered);
    case "chmod":
      return fs.chmod(call.path, call.mode, answered);
    case "chown":
      return fs.chown(call.path, call.uid, call.gid, answered);
    case "native":
      call.run().then((result) => answered(null, result), answered);
      return;
    default:
      return fs[call.call](call.fd, answered);
  }
}
