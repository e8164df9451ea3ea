/**
 * Character devices that chardev-add makes: nobody is served on them, but they are there, hold their sockets and files, and a ring
 * buffer keeps what is written to it. Source: behaviour of QEMU 7.2.
 */
import { closeSync, openSync } from "node:fs";
import { strerror } from "../../base/errno.ts";
import { CommandError, errnoOf } from "../../base/errors.ts";
import type { HostConnection, HostSockets, SocketAddress } from "../../base/host.ts";
import type { ChardevBackend } from "../../server/monitor/machine/chardev.ts";
import { checkReach, listenAddressLegacy } from "../../server/nbd/address.ts";
import type { ChardevOptions } from "../../wire/qapi/index.ts";

const RING_BYTES = 65_536;
/** A ring buffer takes no more memory than this. */
const MAX_RING_BYTES = 64 * 1024 * 1024;

/** A device. */
export interface OpenedChardev {
  readonly kind: string;
  readonly filename: string;
  readonly ring?: RingBuffer;
  close(): Promise<void>;
}

/** Bytes that were written last, until they are read. */
export class RingBuffer {
  readonly #bytes: Uint8Array;
  #produced = 0;
  #consumed = 0;

  /** Throws CommandError where the size is no power of two, or beyond 64 MiB. */
  constructor(size: number) {
    if (size <= 0 || !Number.isInteger(Math.log2(size)))
      throw new CommandError("size of ringbuf chardev must be power of two");
    if (size > MAX_RING_BYTES) throw new CommandError("size of ringbuf chardev is too large");
    this.#bytes = new Uint8Array(size);
  }

  write(bytes: Uint8Array): void {
    const { length } = this.#bytes;
    for (const byte of bytes) this.#bytes[this.#produced++ % length] = byte;
    this.#consumed = Math.max(this.#consumed, this.#produced - length);
  }

  /** Takes up to `size` bytes out. */
  read(size: number): Uint8Array {
    const end = Math.min(this.#produced, this.#consumed + size);
    const taken = Uint8Array.from({ length: end - this.#consumed }, (_, at) => this.#at(this.#consumed + at));
    this.#consumed = end;
    return taken;
  }

  #at(position: number): number {
    return this.#bytes[position % this.#bytes.length] ?? 0;
  }
}

/** Opens one. Throws CommandError. */
export async function openChardev(
  backend: ChardevBackend,
  sockets: HostSockets | undefined,
): Promise<OpenedChardev> {
  const plain = { kind: backend.type, filename: backend.type, close: () => Promise.resolve() };
  switch (backend.type) {
    case "null":
      return plain;
    case "stdio":
      throw new CommandError("stdio belongs to this program's monitors");
    case "ringbuf":
    case "memory":
      return { ...plain, ring: new RingBuffer(backend.data.size ?? RING_BYTES) };
    case "file": {
      const descriptor = openFile(backend.data.out, backend.data.append ?? false);
      return { ...plain, close: () => Promise.resolve(closeSync(descriptor)) };
    }
    case "socket":
      return openSocket(backend.data, sockets);
  }
}

function openFile(path: string, append: boolean): number {
  try {
    return openSync(path, append ? "a" : "w", 0o666);
  } catch (cause) {
    throw new CommandError(`Could not open '${path}': ${strerror(errnoOf(cause))}`, { cause });
  }
}

type SocketBackend = Extract<ChardevBackend, { type: "socket" }>["data"];

async function openSocket(
  { addr, server = true }: SocketBackend,
  sockets: HostSockets | undefined,
): Promise<OpenedChardev> {
  if (!sockets) throw new CommandError("this platform has no sockets");
  const address = listenAddressLegacy(addr);
  return server ? listening(address, sockets) : connected(address, sockets);
}

async function connected(address: SocketAddress, sockets: HostSockets): Promise<OpenedChardev> {
  try {
    const connection = await sockets.connect(address);
    void ignore(connection);
    return { kind: "socket", filename: placeOf(address), close: () => connection.close() };
  } catch (cause) {
    const what = address.type === "unix" ? `'${address.path}'` : `'${placeOf(address)}'`;
    throw new CommandError(`Failed to connect to ${what}: ${strerror(errnoOf(cause))}`, { cause });
  }
}

/** One client at a time: whoever comes next takes its place. */
async function listening(address: SocketAddress, sockets: HostSockets): Promise<OpenedChardev> {
  checkReach(address, { tls: false, allowed: false });
  let client: HostConnection | undefined;
  try {
    const listener = await sockets.listen(address);
    void (async () => {
      for await (const connection of listener.connections) {
        await client?.close();
        client = connection;
        void ignore(connection).then(() => {
          if (client === connection) client = undefined;
        });
      }
    })();
    return {
      kind: "socket",
      get filename() {
        return `${client ? "" : "disconnected:"}${placeOf(address)},server=on`;
      },
      close: async () => {
        await client?.close();
        await listener.close();
      },
    };
  } catch (cause) {
    const what = address.type === "unix" ? ` to ${address.path}` : "";
    throw new CommandError(`Failed to bind socket${what}: ${strerror(errnoOf(cause))}`, { cause });
  }
}

/** Reads what comes and forgets it, until the end. */
async function ignore(connection: HostConnection): Promise<void> {
  try {
    for await (const bytes of connection.incoming) void bytes;
  } catch {
    // A lost connection is an end like another.
  }
}

function placeOf(address: SocketAddress): string {
  if (address.type === "unix") return `unix:${address.path}`;
  return address.type === "inet" ? `tcp:${address.host}:${address.port}` : `fd:${address.fd}`;
}

/** A device of the command line as chardev-add would be asked for it; undefined: there is nothing to open. */
export function backendOf(options: ChardevOptions): ChardevBackend | undefined {
  switch (options.backend) {
    case "file":
      return { type: "file", data: { out: options.path, append: options.append } };
    case "ringbuf":
    case "memory":
      return { type: options.backend, data: options.size === undefined ? {} : { size: options.size } };
    case "socket": {
      const { address, server } = options;
      if (address.type === "fd") return undefined;
      const addr =
        address.type === "unix"
          ? ({ type: "unix", data: { path: address.path } } as const)
          : ({ type: "inet", data: { host: address.host, port: String(address.port) } } as const);
      return { type: "socket", data: { addr, server } };
    }
    default:
      return undefined;
  }
}

/** What query-chardev calls a device of the command line. */
export function filenameOf(options: ChardevOptions, isConnected: boolean): string {
  if (options.backend !== "socket") return options.backend;
  const { server, address } = options;
  return `${isConnected ? "" : "disconnected:"}${placeOf(address)}${server ? ",server=on" : ""}`;
}
