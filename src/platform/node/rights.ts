/**
 * Reads a Unix socket by recvmsg(2), which Node does not, so that descriptors that come along (SCM_RIGHTS) are not lost. The system
 * says by a signal when there is something to read: no thread waits, and nothing polls. SIGURG is taken since it ends no
 * process where nobody minds it. 64-bit Linux with koffi only. Source: recvmsg(2), unix(7), fcntl(2), cmsg(3).
 */
import { closeSync } from "node:fs";
import type * as net from "node:net";
import { Wakeup } from "../../base/signals.ts";
import { KiB } from "../../base/limits.ts";
import { nativeError } from "./errors.ts";
import { loadKoffi, loadNativeCalls } from "./native.ts";

const F_SETFL = 4;
const F_SETOWN = 8;
const F_SETSIG = 10;
const SIGURG = 23;
const O_NONBLOCK = 0o4000;
const O_ASYNC = 0o20000;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EINTR = 4;
const EAGAIN = 11;

const RECEIVE_BYTES = 64 * KiB;
/** struct cmsghdr is 16 bytes long; the system hands over 253 descriptors at most. */
const CMSG_HEADER_BYTES = 16;
const CONTROL_BYTES = CMSG_HEADER_BYTES + 256 * 4;

interface MessageHeader {
  name: null;
  namelen: number;
  iov: { base: Uint8Array; length: number }[];
  iovlen: number;
  control: Uint8Array;
  controllen: number | bigint;
  flags: number;
}

interface Calls {
  /** Bytes, or -errno. */
  recvmsg(fd: number, header: MessageHeader): number;
  fcntl(fd: number, command: number, value: number): void;
}

/** The part of koffi that is used here. */
interface Koffi {
  load(path: null): { func(definition: string): (...args: unknown[]) => number | bigint };
  struct(name: string, members: Record<string, string>): unknown;
  errno(): number;
}

let bound: Calls | undefined;

function calls(): Calls | undefined {
  if (!loadNativeCalls()) return undefined;
  return (bound ??= bind(loadKoffi().koffi as Koffi));
}

function bind(koffi: Koffi): Calls {
  koffi.struct("blockwright_iovec", { base: "void *", length: "size_t" });
  koffi.struct("blockwright_msghdr", {
    ...{ name: "void *", namelen: "uint32_t", iov: "blockwright_iovec *", iovlen: "size_t" },
    ...{ control: "void *", controllen: "size_t", flags: "int" },
  });
  const libc = koffi.load(null);
  const recvmsg = libc.func("int64_t recvmsg(int fd, _Inout_ blockwright_msghdr *header, int flags)");
  const fcntl = libc.func("int fcntl(int fd, int command, int64_t value)");
  return {
    recvmsg(fd, header) {
      const bytes = Number(recvmsg(fd, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
      return bytes < 0 ? -koffi.errno() : bytes;
    },
    fcntl: (fd, command, value) => void fcntl(fd, command, value),
  };
}

/** Some socket may be read. */
const readable = new Wakeup();
let listening = false;

function listen(): void {
  if (listening) return;
  listening = true;
  process.on("SIGURG", () => readable.wake());
}

/** Whether descriptors can be received at all. */
export function receivesRights(): boolean {
  return calls() !== undefined;
}

/** Reads a connected socket that nobody else reads. */
export class RightsReceiver {
  readonly #socket: net.Socket;
  readonly #fd: number;
  readonly #calls: Calls;
  #received: number[] = [];
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);
  readonly #control = new Uint8Array(CONTROL_BYTES);

  /** Undefined where this can't be done. */
  static of(socket: net.Socket): RightsReceiver | undefined {
    const handle = (socket as { _handle?: { fd?: number } })._handle;
    const bindings = calls();
    return bindings && handle?.fd !== undefined && handle.fd >= 0
      ? new RightsReceiver(socket, handle.fd, bindings)
      : undefined;
  }

  private constructor(socket: net.Socket, fd: number, bindings: Calls) {
    this.#socket = socket;
    this.#fd = fd;
    this.#calls = bindings;
    listen();
    bindings.fcntl(fd, F_SETOWN, process.pid);
    bindings.fcntl(fd, F_SETSIG, SIGURG);
    bindings.fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
    socket.once("close", () => {
      this.#drop();
      readable.wake();
    });
  }

  /** One is there that nobody took. */
  get waiting(): boolean {
    return this.#received.length > 0;
  }

  /** Takes the one that came with what was read last, or before; others that came with it are closed. */
  take(): number | undefined {
    const fd = this.#received.shift();
    this.#drop();
    return fd;
  }

  /** What comes, until the peer's end or ours. */
  async *incoming(): AsyncGenerator<Uint8Array, void, undefined> {
    while (!this.#socket.destroyed) {
      const bytes = this.#receive();
      if (bytes > 0) yield this.#buffer.slice(0, bytes);
      else if (bytes === 0) return;
      // The signal tells of no socket, so each looks at its own.
      else if (bytes === -EAGAIN) await readable.wait();
      else if (bytes !== -EINTR) throw nativeError(-bytes, "receive");
    }
  }

  #receive(): number {
    const { length } = this.#control;
    const header: MessageHeader = {
      ...{ name: null, namelen: 0, iov: [{ base: this.#buffer, length: RECEIVE_BYTES }], iovlen: 1 },
      ...{ control: this.#control, controllen: length, flags: 0 },
    };
    const bytes = this.#calls.recvmsg(this.#fd, header);
    const came = Number(header.controllen);
    if (bytes > 0 && came > CMSG_HEADER_BYTES) this.#replace(came);
    return bytes;
  }

  /** As in QEMU, descriptors that come take the place of those that nobody took. */
  #replace(controlBytes: number): void {
    const view = new DataView(this.#control.buffer);
    const end = Math.min(Number(view.getBigUint64(0, true)), controlBytes);
    this.#drop();
    for (let at = CMSG_HEADER_BYTES; at + 4 <= end; at += 4) this.#received.push(view.getInt32(at, true));
  }

  #drop(): void {
    for (const fd of this.#received.splice(0)) closeSync(fd);
  }
}
