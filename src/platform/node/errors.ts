/**
 * Turns the errors of Node's fs, net and zlib into BlockErrors. The real errno is kept (EDQUOT stays EDQUOT); Node's own
 * argument errors (`ERR_*`) have none and become EINVAL, everything else unknown becomes EIO.
 */
import { type Errno, errnoFromNumber } from "../../base/errno.ts";
import { BlockError, blockError, errnoOf } from "../../base/errors.ts";

function isArgumentError(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError;
}

/** A BlockError for what a Node call of operation `op` threw or passed to its callback. */
export function nodeError(error: unknown, op: string): BlockError {
  if (error instanceof BlockError) return error;
  const code: Errno = isArgumentError(error) ? "EINVAL" : errnoOf(error);
  return new BlockError({ code, op, cause: error });
}

/** A BlockError for a (positive) errno number of a native call. */
export function nativeError(errno: number, op: string): BlockError {
  return blockError(errnoFromNumber(errno), op);
}

/** Filesystems say EOPNOTSUPP, old kernels ENOSYS, and EINVAL or EPERM for files that have no such operation. */
export function fallocateError(errno: number, op: string): BlockError {
  const error = nativeError(errno, op);
  const absent = ["ENOSYS", "EINVAL", "EPERM", "ENODEV"].includes(error.code);
  return absent ? blockError("ENOTSUP", op) : error;
}
