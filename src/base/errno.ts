/**
 * Errno names, Linux numbers and the texts of strerror(3). Errno alone drives the error policy, so every platform
 * maps its failures onto these names (a browser's exceeded quota is ENOSPC, a lost network is EIO).
 * Source: POSIX.1-2017 <errno.h>, numbers from Linux asm-generic.
 */

const table = {
  EPERM: [1, "Operation not permitted"],
  ENOENT: [2, "No such file or directory"],
  EINTR: [4, "Interrupted system call"],
  EIO: [5, "Input/output error"],
  ENXIO: [6, "No such device or address"],
  EBADF: [9, "Bad file descriptor"],
  EAGAIN: [11, "Resource temporarily unavailable"],
  ENOMEM: [12, "Cannot allocate memory"],
  EACCES: [13, "Permission denied"],
  EBUSY: [16, "Device or resource busy"],
  EEXIST: [17, "File exists"],
  ENODEV: [19, "No such device"],
  ENOTDIR: [20, "Not a directory"],
  EISDIR: [21, "Is a directory"],
  EINVAL: [22, "Invalid argument"],
  EMFILE: [24, "Too many open files"],
  ETXTBSY: [26, "Text file busy"],
  EFBIG: [27, "File too large"],
  ENOSPC: [28, "No space left on device"],
  ESPIPE: [29, "Illegal seek"],
  EROFS: [30, "Read-only file system"],
  EPIPE: [32, "Broken pipe"],
  ERANGE: [34, "Numerical result out of range"],
  ENAMETOOLONG: [36, "File name too long"],
  ENOSYS: [38, "Function not implemented"],
  ELOOP: [40, "Too many levels of symbolic links"],
  ENOMEDIUM: [123, "No medium found"],
  EOVERFLOW: [75, "Value too large for defined data type"],
  EPROTO: [71, "Protocol error"],
  EBADMSG: [74, "Bad message"],
  EADDRINUSE: [98, "Address already in use"],
  EADDRNOTAVAIL: [99, "Cannot assign requested address"],
  ENOTSUP: [95, "Operation not supported"],
  ECONNREFUSED: [111, "Connection refused"],
  ECONNRESET: [104, "Connection reset by peer"],
  ETIMEDOUT: [110, "Connection timed out"],
  ENOTCONN: [107, "Transport endpoint is not connected"],
  ESHUTDOWN: [108, "Cannot send after transport endpoint shutdown"],
  ECANCELED: [125, "Operation canceled"],
  EDQUOT: [122, "Disk quota exceeded"],
  ESTALE: [116, "Stale file handle"],
} as const satisfies Record<string, readonly [number, string]>;

/** The errno names that Blockwright knows. */
export type Errno = keyof typeof table;

const byNumber = new Map<number, Errno>(
  Object.entries(table).map(([name, [number]]) => [number, name as Errno]),
);

/** The text that strerror(3) gives for it. */
export function strerror(code: Errno): string {
  return table[code][1];
}

/** The name of a (positive) Linux errno number; EIO where it is not known, so that a policy still decides. */
export function errnoFromNumber(number: number): Errno {
  return byNumber.get(number) ?? "EIO";
}

/** The (positive) Linux errno number of a name. */
export function errnoToNumber(code: Errno): number {
  return table[code][0];
}

/** Whether a string names an errno of the table. */
export function isErrno(name: unknown): name is Errno {
  return typeof name === "string" && Object.hasOwn(table, name);
}
