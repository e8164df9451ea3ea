/**
 * Calls on files that are made in the caller's turn by programs that do nothing else meanwhile: those that a disk which answers
 * answers at once. Waking a thread of the pool for each takes longer than all else that a look at an image does.
 */
import * as fs from "node:fs";
import type { FileAnswer, FileCall } from "./calls.ts";

/** A call that moves no data and waits for none to be written. */
export type ShortCall =
  | Extract<FileCall, { call: "open" }>
  | { call: "close" | "fstat"; fd: number }
  | { call: "stat" | "lstat" | "realpath"; path: string };

const short: ReadonlySet<FileCall["call"]> = new Set(["open", "close", "fstat", "stat", "lstat", "realpath"]);

/** Whether a call is one of them. */
export function isShort(call: FileCall): call is ShortCall {
  return short.has(call.call);
}

/** Makes the call. Throws Node's errors. */
export function callAtOnce(call: ShortCall): FileAnswer {
  switch (call.call) {
    case "open":
      return fs.openSync(call.path, call.flags, call.mode);
    case "close":
      fs.closeSync(call.fd);
      return undefined;
    case "fstat":
      return fs.fstatSync(call.fd, { bigint: true });
    case "stat":
    case "lstat":
      return fs[`${call.call}Sync`](call.path, { bigint: true });
    case "realpath":
      return fs.realpathSync.native(call.path);
  }
}
