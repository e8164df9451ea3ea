/**
 * NBD's error numbers and our errno names. The protocol knows eight; every other one that a server has becomes EINVAL, and so
 * does every number that a client does not know, as in QEMU.
 * Source: doc/proto.md, "Error values".
 */
import type { Errno } from "../../base/errno.ts";
import { type BlockError, blockError } from "../../base/errors.ts";

const numbers: Partial<Record<Errno, number>> = {
  EPERM: 1,
  EROFS: 1,
  EACCES: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EDQUOT: 28,
  EFBIG: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
};

const names: Readonly<Record<number, Errno>> = {
  1: "EPERM",
  5: "EIO",
  12: "ENOMEM",
  22: "EINVAL",
  28: "ENOSPC",
  75: "EOVERFLOW",
  95: "ENOTSUP",
  108: "ESHUTDOWN",
};

/** The number that goes over the wire for an errno. */
export function nbdError(code: Errno): number {
  return numbers[code] ?? 22;
}

/** The errno of a number that came (> 0). */
export function errnoOfNbd(number: number): Errno {
  return names[number] ?? "EINVAL";
}

/** The peer broke the protocol: what it says next cannot be understood. EINVAL, as QEMU's functions return it. */
export function protocolError(message: string): BlockError {
  return blockError("EINVAL", "nbd", message);
}
