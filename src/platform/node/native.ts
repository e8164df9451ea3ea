/**
 * The few system calls that Node lacks, through the optional package koffi: lseek(SEEK_DATA/SEEK_HOLE), preadv2, fallocate,
 * posix_fallocate, copy_file_range, sendfile, setsockopt and open-file-description locks. Everything works without them, only with less knowledge of
 * holes and without image locks. 64-bit little-endian Linux only, since structs and constants are laid out here.
 * Source: lseek(2), preadv2(2), fallocate(2), copy_file_range(2), sendfile(2), socket(7), fcntl(2).
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** A byte-range lock on an open file. */
export type ByteLock = "shared" | "exclusive" | "none";

/** Where `seek` looks. */
export type SeekKind = "data" | "hole" | "end";

/** A place in an open file. */
export interface FilePlace {
  readonly fd: number;
  readonly offset: number;
}

/** The native calls. Numbers returned are results >= 0, or negated errno numbers. */
export interface NativeCalls {
  /** The next offset >= `offset` of that kind, or -errno (ENXIO: none before the end of the file). Moves the fd's position. */
  seek(fd: number, offset: number, kind: SeekKind): number;
  /** The same on a thread of the pool. */
  seekLater(fd: number, offset: number, kind: SeekKind): Promise<number>;
  /** Reads what the kernel has in memory, without waiting: the count, which may be short, or -errno (EAGAIN: nothing of it). */
  readCached(fd: number, buffer: Uint8Array, offset: number): number;
  /** fallocate(2) of a range with FALLOC_FL_* bits, on a worker thread; 0 or -errno. */
  fallocate(fd: number, mode: number, offset: number, bytes: number): Promise<number>;
  /** copy_file_range(2) from file to file, on a worker thread: the bytes copied, 0 at the end of the first, or -errno. */
  copyFileRange(from: FilePlace, to: FilePlace, bytes: number): Promise<number>;
  /** Reserves blocks and grows the file, on a worker thread; 0 or -errno. */
  posixFallocate(fd: number, offset: number, bytes: number): Promise<number>;
  /** Sets or drops an OFD lock on one byte, never waiting; 0 or -errno. */
  lockByte(fd: number, offset: number, lock: ByteLock): number;
  /** sendfile(2) from a file into a socket, without copying: the bytes that it took, 0 at the end of the file, or -errno. */
  sendFile(to: number, from: FilePlace, bytes: number): number;
  /** Has the kernel keep so many bytes of what a socket sends, as far as it allows that. */
  setSendBuffer(fd: number, bytes: number): void;
  /** Ends the process at once; waits for no thread, writes nothing. */
  exit(status: number): void;
  /** Whether another open file holds any lock on the byte: 1, 0, or -errno. */
  isByteLocked(fd: number, offset: number): number;
}

/** FALLOC_FL_* bits of fallocate(2). */
export const Fallocate = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;

type Argument = number | string | Uint8Array;
type NativeFunction = ((...args: Argument[]) => number | bigint) & {
  async(...args: (Argument | ((error: Error | null, result: number) => void))[]): void;
};

/** The part of koffi that is used. */
interface Koffi {
  load(path: string | null): { func(definition: string): NativeFunction };
  errno(): number;
  address(memory: Uint8Array): bigint;
}

const seekNumbers: Record<SeekKind, number> = { end: 2, data: 3, hole: 4 };

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const LOCK_TYPES: Record<ByteLock, number> = { shared: F_RDLCK, exclusive: F_WRLCK, none: F_UNLCK };
/** sizeof(struct flock): l_type, l_whence: 16 bits at 0 and 2; l_start, l_len: 64 bits at 8 and 16; l_pid at 24. */
const FLOCK_BYTES = 32;
const RWF_NOWAIT = 8;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
/** What a C library says that lacks a function. */
const ENOSYS = 38;

/** `call` on one of koffi's threads: its result, or -errno. errno stays on that thread, so a failed call is repeated here to learn it. */
function onThread(koffi: Koffi, call: NativeFunction, args: Argument[]): Promise<number> {
  const direct = (): number => {
    const result = Number(call(...args));
    return result < 0 ? -koffi.errno() : result;
  };
  return new Promise((resolve, reject) => {
    try {
      call.async(...args, (error, result) => {
        if (error) reject(error);
        else resolve(Number(result) < 0 ? direct() : Number(result));
      });
    } catch {
      resolve(direct());
    }
  });
}

/** The functions by their declarations, each of which koffi takes longer to read than the function takes. */
const declarations = {
  lseek: "int64_t lseek(int fd, int64_t offset, int whence)",
  preadv2: "int64_t preadv2(int fd, const uint8_t *parts, int count, int64_t offset, int flags)",
  fallocate: "int fallocate(int fd, int mode, int64_t offset, int64_t bytes)",
  posixFallocate: "int posix_fallocate(int fd, int64_t offset, int64_t bytes)",
  copyFileRange:
    "int64_t copy_file_range(int from, _Inout_ uint8_t *at, int to, _Inout_ uint8_t *atTo, size_t bytes, unsigned int flags)",
  fcntl: "int fcntl(int fd, int command, _Inout_ uint8_t *lock)",
  sendfile: "int64_t sendfile(int to, int from, _Inout_ uint8_t *at, size_t bytes)",
  setsockopt: "int setsockopt(int fd, int level, int option, const uint8_t *value, uint32_t bytes)",
  exit: "void _exit(int status)",
} as const;

/** An off_t that a call reads. */
function placeOf({ offset }: FilePlace): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(offset), true);
  return bytes;
}

/** The calls of sockets. */
function socketCalls(
  koffi: Koffi,
  libcFunction: (name: "sendfile" | "setsockopt") => NativeFunction,
): Pick<NativeCalls, "sendFile" | "setSendBuffer"> {
  return {
    sendFile(to, from, bytes) {
      const result = Number(libcFunction("sendfile")(to, from.fd, placeOf(from), bytes));
      return result < 0 ? -koffi.errno() : result;
    },
    setSendBuffer(fd, bytes) {
      const value = new Uint8Array(Uint32Array.of(bytes).buffer);
      libcFunction("setsockopt")(fd, SOL_SOCKET, SO_SNDBUF, value, value.byteLength);
    },
  };
}

function bind(koffi: Koffi): NativeCalls {
  const libc = koffi.load(null);
  const bound: Partial<Record<keyof typeof declarations, NativeFunction>> = {};
  const libcFunction = (name: keyof typeof declarations): NativeFunction =>
    (bound[name] ??= libc.func(declarations[name]));
  const flock = new Uint8Array(FLOCK_BYTES);
  const view = new DataView(flock.buffer);

  /** struct iovec: the address of a buffer, and its bytes. */
  const part = new BigUint64Array(2);
  const partBytes = new Uint8Array(part.buffer);

  const lockCall = (fd: number, command: number, type: number, offset: number): number => {
    flock.fill(0);
    view.setInt16(0, type, true);
    view.setBigInt64(8, BigInt(offset), true);
    view.setBigInt64(16, 1n, true);
    return Number(libcFunction("fcntl")(fd, command, flock)) < 0 ? -koffi.errno() : 0;
  };

  return {
    seek(fd, offset, kind) {
      const result = Number(libcFunction("lseek")(fd, offset, seekNumbers[kind]));
      return result < 0 ? -koffi.errno() : result;
    },
    seekLater: (fd, offset, kind) => onThread(koffi, libcFunction("lseek"), [fd, offset, seekNumbers[kind]]),
    readCached(fd, buffer, offset) {
      let call;
      try {
        call = libcFunction("preadv2");
      } catch {
        return -ENOSYS;
      }
      part[0] = koffi.address(buffer);
      part[1] = BigInt(buffer.byteLength);
      const result = Number(call(fd, partBytes, 1, offset, RWF_NOWAIT));
      return result < 0 ? -koffi.errno() : result;
    },
    fallocate: (fd, mode, offset, bytes) =>
      onThread(koffi, libcFunction("fallocate"), [fd, mode, offset, bytes]),
    copyFileRange(from, to, bytes) {
      try {
        const call = libcFunction("copyFileRange");
        return onThread(koffi, call, [from.fd, placeOf(from), to.fd, placeOf(to), bytes, 0]);
      } catch {
        return Promise.resolve(-ENOSYS);
      }
    },
    posixFallocate: (fd, offset, bytes) =>
      new Promise((resolve, reject) => {
        libcFunction("posixFallocate").async(fd, offset, bytes, (error, result) => {
          if (error) reject(error);
          else resolve(-result);
        });
      }),
    lockByte: (fd, offset, lock) => lockCall(fd, F_OFD_SETLK, LOCK_TYPES[lock], offset),
    ...socketCalls(koffi, libcFunction),
    exit: (status) => void libcFunction("exit")(status),
    isByteLocked(fd, offset) {
      const result = lockCall(fd, F_OFD_GETLK, F_WRLCK, offset);
      if (result < 0) return result;
      return view.getInt16(0, true) === F_UNLCK ? 0 : 1;
    },
  };
}

/** What has been loaded. */
interface Loaded {
  readonly calls?: NativeCalls;
  readonly koffi?: unknown;
  /** The addon's file, by which a thread can load it, too. */
  readonly addon?: string | undefined;
}

let loaded: Loaded | undefined;

/** The native calls, loaded on first use; undefined where koffi or the platform lacks them. */
export function loadNativeCalls(): NativeCalls | undefined {
  loaded ??= tryLoad();
  return loaded.calls;
}

/** The native calls, if somebody has needed them. */
export function nativeIfLoaded(): NativeCalls | undefined {
  return loaded?.calls;
}

/** koffi itself, and its file; what a thread loads it by. Loaded as the calls are. */
export function loadKoffi(): Pick<Loaded, "koffi" | "addon"> {
  loaded ??= tryLoad();
  return loaded;
}

/** Where a file of a package lies, in this module's folder or one above it; undefined: nowhere there. */
function packageFile(name: string): string | undefined {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const file = join(folder, "node_modules", name);
    if (existsSync(file)) return file;
    if (folder === dirname(folder)) return undefined;
  }
}

/** Loads koffi's addon itself, without Node's resolving of modules: a third of what the native calls cost a start. */
function openAddon(file: string): unknown {
  const module = { exports: {} };
  process.dlopen(module, file);
  return module.exports;
}

function tryLoad(): Loaded {
  const supported = process.platform === "linux" && ["x64", "arm64"].includes(process.arch);
  if (!supported) return {};
  // The package's own loader looks at more than there is time for when a program starts, and knows all C libraries.
  const addon = `@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`;
  const files = [() => packageFile(addon), () => here().resolve(addon)];
  const ways = [
    ...files.map((find) => () => {
      const file = find();
      return { addon: file, koffi: file === undefined ? undefined : openAddon(file) };
    }),
    () => ({ koffi: here()("koffi") as unknown }),
  ];
  for (const load of ways) {
    try {
      const made = load();
      if (made.koffi !== undefined) return { ...made, calls: bind(made.koffi as Koffi) };
    } catch {
      continue;
    }
  }
  return {};
}

function here(): NodeJS.Require {
  const { createRequire } = process.getBuiltinModule("node:module");
  return createRequire(import.meta.url);
}
