/**
 * Unix and TCP sockets of Node. A Unix socket gets mode 0600 at the moment it is bound, and a socket file left behind by
 * an earlier run is replaced, as QEMU does; anything else at that path is left alone. Whether an inet address may be
 * listened on is the caller's decision.
 */
import * as fs from "node:fs";
import type * as net from "node:net";
import { dirname } from "node:path";
import { ConnectionQueue } from "../../base/connection-queue.ts";
import { type BlockError, blockError } from "../../base/errors.ts";
import type {
  ConnectOptions,
  HostConnection,
  HostListener,
  HostSockets,
  SocketAddress,
  WebSocketAddress,
} from "../../base/host.ts";
import { onAbort } from "../../base/signals.ts";
import { NodeConnection, readFor } from "./connection.ts";
import { nodeError } from "./errors.ts";
import { receivesRights, RightsReceiver } from "./rights.ts";

/** Longest path in sockaddr_un, bytes, without the final NUL. */
const MAX_UNIX_PATH = 107;
class NodeListener implements HostListener {
  readonly connections = new ConnectionQueue();
  readonly address: SocketAddress;
  readonly #server: net.Server;

  constructor(server: net.Server, asked: SocketAddress, takesRights: boolean) {
    this.#server = server;
    const bound = server.address();
    this.address =
      asked.type === "inet" && typeof bound === "object" && bound ? { ...asked, port: bound.port } : asked;
    server.on("connection", (socket) => {
      const rights = takesRights ? RightsReceiver.of(socket) : undefined;
      this.connections.push(new NodeConnection(socket, undefined, rights));
    });
  }

  /** Stops listening and drops connections that nobody accepted; accepted ones stay open. */
  close(): Promise<void> {
    this.#server.close();
    return this.connections.close();
  }
}

function checkPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_UNIX_PATH) return;
  throw blockError("EINVAL", "listen", `UNIX socket path '${path}' is too long`);
}

function removeStale(path: string): void {
  const stats = fs.lstatSync(path, { throwIfNoEntry: false });
  if (stats?.isSocket()) fs.unlinkSync(path);
}

/** Binds under a umask, so that the socket is never open to others; a worker thread has no umask and needs chmod. */
function bindPrivately(server: net.Server, path: string): void {
  let before: number | undefined;
  try {
    before = process.umask(0o177);
  } catch {
    server.once("listening", () => fs.chmodSync(path, 0o600));
  }
  try {
    server.listen({ path });
  } finally {
    if (before !== undefined) process.umask(before);
  }
}

function nameOf(address: SocketAddress): string {
  if (address.type === "unix") return address.path;
  return address.type === "fd" ? `descriptor ${address.fd}` : `${address.host}:${address.port}`;
}

/** A socket that is connected already. Throws EBADF. */
function inherited(fd: number, takesRights: boolean): HostConnection {
  try {
    const { Socket } = process.getBuiltinModule("node:net");
    // What Node gives to the sockets of a server that pauses them.
    const pause = { pauseOnCreate: takesRights };
    const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true, ...pause });
    return new NodeConnection(socket, undefined, takesRights ? RightsReceiver.of(socket) : undefined);
  } catch {
    throw blockError("EBADF", "connect", `File descriptor '${fd}' is not a socket`);
  }
}

/** What getaddrinfo(3) says; Node keeps its codes only. */
const resolveWords: Readonly<Record<string, string>> = {
  ENOTFOUND: "Name or service not known",
  EAI_AGAIN: "Temporary failure in name resolution",
};

/** Of several addresses that were tried, the error of the first. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? (error.errors[0] as unknown) : error;
}

/** QEMU's words for a failed connect or listen. */
function socketError(error: unknown, address: SocketAddress, op: "connect" | "listen"): BlockError {
  const first = nodeError(firstOf(error), op);
  // The platform says EACCES of a folder that is not there.
  const isLost = op === "listen" && address.type === "unix" && !fs.existsSync(dirname(address.path));
  const { code, message } = isLost ? blockError("ENOENT", op) : first;
  const where = nameOf(address);
  const unresolved = error instanceof Error && "code" in error ? resolveWords[String(error.code)] : undefined;
  if (unresolved !== undefined)
    return blockError(code, op, `address resolution failed for ${where}: ${unresolved}`);
  const verb =
    op === "connect" ? "connect to" : address.type === "unix" ? "bind socket to" : "listen on socket at";
  return blockError(code, op, `Failed to ${verb} ${op === "connect" ? `'${where}'` : where}: ${message}`);
}

/** Connects. `signal` ends the attempt. */
async function connect(
  address: SocketAddress | WebSocketAddress,
  options: ConnectOptions,
  descriptors: boolean,
): Promise<HostConnection> {
  const { receiver, signal } = options;
  if (address.type === "websocket")
    return (await import("./web-sockets.ts")).connectWebSocket(address, options);
  const takesRights = descriptors && address.type !== "inet" && receivesRights();
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    if (address.type === "fd") return resolve(inherited(address.fd, takesRights));
    const target =
      address.type === "unix" ? { path: address.path } : { host: address.host, port: address.port };
    const onread = receiver ? { onread: readFor(receiver) } : {};
    const socket = process
      .getBuiltinModule("node:net")
      .connect({ ...target, ...onread, allowHalfOpen: true, noDelay: true });
    if (takesRights) socket.pause();
    const fail = (error: unknown): void => {
      forget();
      reject(socketError(error, address, "connect"));
    };
    const forget = onAbort(signal, () => {
      socket.off("error", fail).on("error", () => undefined);
      socket.destroy();
      reject(signal?.reason as Error);
    });
    socket.once("error", fail);
    socket.once("connect", () => {
      forget();
      socket.off("error", fail);
      resolve(new NodeConnection(socket, receiver, takesRights ? RightsReceiver.of(socket) : undefined));
    });
  });
}

function listen(address: SocketAddress, descriptors: boolean): Promise<HostListener> {
  return new Promise((resolve, reject) => {
    if (address.type === "unix") checkPath(address.path);
    const takesRights = descriptors && address.type === "unix" && receivesRights();
    const server = process
      .getBuiltinModule("node:net")
      .createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true });
    server.once("error", (error) => reject(socketError(error, address, "listen")));
    server.once("listening", () => resolve(new NodeListener(server, address, takesRights)));
    if (address.type === "fd") return void server.listen({ fd: address.fd });
    if (address.type === "inet") return void server.listen({ host: address.host, port: address.port });
    removeStale(address.path);
    bindPrivately(server, address.path);
  });
}

/** `descriptors`: who is connected by a Unix socket may hand descriptors over, where the platform can take them. */
function socketsThat({ descriptors }: { descriptors: boolean }): HostSockets {
  return {
    connect: (address, options = {}) => connect(address, options, descriptors),
    listen: (address) => listen(address, descriptors),
  };
}

/** The sockets of Node. Both ends may close their direction alone. */
export const nodeSockets = socketsThat({ descriptors: false });

/** Those for monitors: their connections have `descriptors`. */
export const monitorSockets = socketsThat({ descriptors: true });
