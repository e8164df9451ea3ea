/**
 * The daemon's pid file. Invariants: it names one running daemon, for as long as that runs: the file is locked (where koffi
 * is there; else the process that it names must be gone), never written through a symbolic link, and removed only while it
 * is still the file that was written. Source: behaviour of qemu-storage-daemon 7.2.
 */
import * as fs from "node:fs";
import { errnoOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import type { NativeCalls } from "../../platform/node/native.ts";

/** How often a name is looked at again that means another file by now. */
const TRIES = 5;

/** A pid file that is ours. */
export interface Pidfile {
  /** Removes it, unless the name means another file by now, and lets go of its lock. */
  remove(): void;
}

/** Creates and locks it; without native calls nothing is locked. Throws an Error in the user's words. */
export function takePidfile(path: string, native: NativeCalls | undefined): Pidfile {
  for (let tries = 0; tries < TRIES; tries++) {
    const fd = native ? openLocked(path, native) : openUnclaimed(path);
    if (fd === undefined) continue;
    fs.ftruncateSync(fd);
    fs.writeSync(fd, `${process.pid}\n`, 0);
    return {
      remove: () => {
        if (isAt(path, fd)) fs.unlinkSync(path);
        fs.closeSync(fd);
      },
    };
  }
  throw new Error(`cannot create PID file: '${path}' keeps changing`);
}

/** Undefined: the name means another file since. */
function openLocked(path: string, native: NativeCalls): number | undefined {
  const fd = openFile(path, fs.constants.O_CREAT);
  const result = native.lockByte(fd, 0, "exclusive");
  if (result < 0) {
    fs.closeSync(fd);
    throw new Error(`cannot create PID file: Cannot lock pid file: ${strerror("EAGAIN")}`);
  }
  if (isAt(path, fd)) return fd;
  fs.closeSync(fd);
  return undefined;
}

/** Without locks: a file that is there must be of a process that has gone. Undefined: look again. */
function openUnclaimed(path: string): number | undefined {
  try {
    return openFile(path, fs.constants.O_CREAT | fs.constants.O_EXCL);
  } catch (error) {
    if (!(error instanceof Error) || errnoOf(error.cause) !== "EEXIST") throw error;
  }
  const fd = openFile(path, 0);
  const pid = Number.parseInt(fs.readFileSync(fd, "utf8"), 10);
  const isOurs = isAt(path, fd);
  fs.closeSync(fd);
  if (isRunning(pid))
    throw new Error(`cannot create PID file: Cannot lock pid file: process ${pid} is running`);
  if (isOurs) fs.unlinkSync(path);
  return undefined;
}

function openFile(path: string, more: number): number {
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = fs.constants;
  let fd;
  try {
    fd = fs.openSync(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | more, 0o644);
  } catch (cause) {
    const why = errnoOf(cause) === "ELOOP" ? "it is a symbolic link" : strerror(errnoOf(cause));
    throw new Error(`cannot create PID file: Cannot open pid file '${path}': ${why}`, { cause });
  }
  if (fs.fstatSync(fd).isFile()) return fd;
  fs.closeSync(fd);
  throw new Error(`cannot create PID file: '${path}' is no regular file`);
}

/** Whether the name still means the open file. */
function isAt(path: string, fd: number): boolean {
  const [opened, named] = [fs.fstatSync(fd), fs.lstatSync(path, { throwIfNoEntry: false })];
  return named !== undefined && named.ino === opened.ino && named.dev === opened.dev;
}

function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === "EPERM";
  }
}
