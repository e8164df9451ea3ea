/**
 * What the browser's storage throws, as errno: by the exception's name, never by its message, which is wrong at times. And
 * the lock that keeps a disk open once only. Source: WebIDL's DOMException names, Web Locks.
 */
import type { Errno } from "../../base/errno.ts";
import { BlockError } from "../../base/errors.ts";
import { deferred } from "../../base/signals.ts";

/** How long a lock or a handle is waited for: a page that is reloaded lets go of it a little later, ms. */
export const PATIENCE_MS = 1500;

const errnoOfName: Readonly<Record<string, Errno>> = {
  NotFoundError: "ENOENT",
  NoModificationAllowedError: "EAGAIN",
  InvalidModificationError: "EAGAIN",
  QuotaExceededError: "ENOSPC",
  TypeMismatchError: "ENOTDIR",
  InvalidStateError: "EBADF",
  NotAllowedError: "EACCES",
  // Not this file, but storage as such is refused: Firefox's private windows, blocked cookies, WebKit without its handles.
  SecurityError: "ENOTSUP",
  NotSupportedError: "ENOTSUP",
};

/** An exception of the browser as a BlockError; EIO where its name says nothing. */
export function mapped(op: string, cause: unknown): BlockError {
  if (cause instanceof BlockError) return cause;
  const name = cause instanceof DOMException ? cause.name : "";
  return new BlockError({ code: errnoOfName[name] ?? "EIO", op, cause });
}

/** Takes the lock of a name; the returned function gives it back. EAGAIN when somebody else keeps it. */
export async function lock(name: string): Promise<() => void> {
  const released = deferred();
  const patience = new AbortController();
  const timeout = setTimeout(() => patience.abort(), PATIENCE_MS);
  const held = deferred();
  navigator.locks
    .request(`blockwright:${name}`, { signal: patience.signal }, () => {
      held.resolve();
      return released.promise;
    })
    .catch((error: unknown) => held.reject(error));
  try {
    await held.promise;
  } catch (cause) {
    const message = "it is already open, in another tab or worker";
    throw new BlockError({ code: "EAGAIN", op: "open", message, cause });
  } finally {
    clearTimeout(timeout);
  }
  return () => released.resolve();
}
