/**
 * A disk for NBD's clients: qemu-img, nbdcopy, nbd-client, virtual machines, another engine.
 *
 * Invariants: the server and its one export live and end together; who uses it when it is closed has their requests answered first.
 */
import { readAddress } from "../base/address.ts";
import { asyncDispose } from "../base/lease.ts";
import { BlockError, CommandError } from "../base/errors.ts";
import type { Host, SocketAddress } from "../base/host.ts";
import { exportsOf } from "../export/exports.ts";
import { checkReach } from "../server/nbd/address.ts";
import { tlsCredentialsOf } from "../server/nbd/credentials.ts";
import { NbdServer } from "../server/nbd/server.ts";
import { bracketed, makeToken } from "../server/web/access.ts";
import { openSocketDoor } from "../server/web/socket-door.ts";
import type { CallOptions, Node } from "./node.ts";
import { callOptions, checkArgument, checkNodes, optionsOf } from "./options.ts";

/** Options of serveNbd(). */
export interface ServeNbdOptions extends CallOptions {
  /**
   * Where it listens: `unix:PATH`, or `HOST:PORT`, which is a loopback address but with `tlsCreds` or `allowPlainTcp`;
   * `ws:HOST:PORT`: for clients that come by WebSocket, as pages do. Port 0: any that is free.
   */
  address: string;
  /** By WebSocket: what clients must show, 16 or more of `A-Z a-z 0-9 . _ ~ -`. Default: a new one, which `url` has. */
  token?: string;
  /** By WebSocket: the origins whose pages may come (`https://example.org`), or `*`. Default: none. */
  origins?: readonly string[];
  /** The name of the export; default the empty one, which clients ask for that name none. */
  name?: string;
  /** What it is, for people. */
  description?: string;
  /** Clients may write. Default false. */
  writable?: boolean;
  /** Each write is durable before it is answered. Default false. */
  writethrough?: boolean;
  /** Dirty bitmaps of the disk that clients may ask for (`qemu:dirty-bitmap:NAME`). */
  bitmaps?: readonly string[];
  /** Clients may ask which layer of the chain holds a range (`qemu:allocation-depth`). */
  allocationDepth?: boolean;
  /** Clients at a time; 0: any number. Default 100. */
  maxConnections?: number;
  /** An object of the engine, `tls-creds-x509` or `tls-creds-psk`, by its id: clients must use TLS. */
  tlsCreds?: string;
  /** Lets it listen without TLS where others than this machine's programs reach it. Default false. */
  allowPlainTcp?: boolean;
  /** Told how many clients there are, whenever that changes; of one that has gone, whether it had got as far as the disk. */
  onClients?: (clients: number, gone?: { readonly served: boolean }) => void;
}

/** A disk that is served. */
export interface NbdService extends AsyncDisposable {
  /** By which clients find it: `nbd://HOST:PORT/NAME`, `nbd+unix:///NAME?socket=PATH`, `nbd+ws://HOST:PORT/NAME?token=TOKEN`. */
  readonly url: string;
  /** Clients there are now. */
  readonly clients: number;
  /** Takes nobody new, answers what is under way, and lets the disk go. May be called again. */
  close(): Promise<void>;
}

const checkOptions = optionsOf<ServeNbdOptions>({
  ...callOptions,
  address: "str",
  token: "str",
  origins: "Array",
  name: "str",
  description: "str",
  writable: "bool",
  writethrough: "bool",
  bitmaps: "Array",
  allocationDepth: "bool",
  maxConnections: "int",
  tlsCreds: "str",
  allowPlainTcp: "bool",
  onClients: "Function",
});

let services = 0;

/**
 * Serves a disk until the answer is closed. Throws BlockError: EINVAL for no address, EADDRINUSE …, ENOTSUP where there are no
 * sockets; CommandError in QEMU's words: a read-only disk that is to be written, permissions that others don't allow, bitmaps
 * that are not there, EPERM for an address that others reach without TLS.
 */
export async function serveNbd(node: Node, options: ServeNbdOptions): Promise<NbdService> {
  checkOptions(options);
  checkNodes({ node });
  checkArgument("address", options.address, "str");
  options.signal?.throwIfAborted();
  const { engine } = node;
  const { description, name = "", writable = false, writethrough, bitmaps, allocationDepth } = options;
  let clients = 0;
  const { server, url } = await listen(node, options, (now, gone) => {
    clients = now;
    options.onClients?.(now, gone);
  });
  const exports = exportsOf(engine);
  exports.servers.add(server);
  services += 1;
  const id = `served-${services}`;
  const stop = async (): Promise<void> => {
    exports.servers.delete(server);
    await server.stop();
    await exports.end(id);
  };
  try {
    await node.release();
    await exports.addNode(node.blockNode, { id, type: "nbd", writable, writethrough }, (backend) =>
      server.serve(backend, { name, description, writable, bitmaps, allocationDepth }),
    );
  } catch (error) {
    await stop();
    throw error;
  }
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => (closed ??= stop());
  return {
    url,
    get clients() {
      return clients;
    },
    close,
    [asyncDispose]: close,
  };
}

/** A server that listens, and where clients find the export. */
async function listen(
  { engine }: Node,
  options: ServeNbdOptions,
  onClients: NonNullable<ServeNbdOptions["onClients"]>,
): Promise<{ server: NbdServer; url: string }> {
  const { host } = engine.graph;
  const { name = "", maxConnections, allowPlainTcp: allowed = false } = options;
  const credentials =
    options.tlsCreds === undefined ? undefined : tlsCredentialsOf(engine, options.tlsCreds, "server");
  const tls = credentials !== undefined;
  const web = options.address.startsWith("ws:")
    ? readAddress(options.address.slice("ws:".length))
    : undefined;
  const more = { host, maxConnections, onClients };
  if (web?.type === "inet") {
    const address = { host: web.host, port: web.port };
    checkReach(web, { tls, allowed });
    const token = options.token ?? (await newToken(host));
    if (!/^[\w.~-]{16,}$/.test(token)) throw refusal("the token is none: 16 or more of A-Z a-z 0-9 . _ ~ -");
    const access = { token, anyName: allowed || tls, origins: options.origins ?? [], credentials };
    const door = await openSocketDoor({ host, address, ...access });
    const server = new NbdServer(more);
    server.open({ listener: door });
    return { server, url: door.url(name) };
  }
  const { address, urlOf } = placeOf(options.address, { name, tls });
  checkReach(address, { tls, allowed });
  const server = await NbdServer.start({ ...more, address, credentials });
  return { server, url: urlOf(server.address ?? address) };
}

async function newToken(host: Host): Promise<string> {
  const crypto = await host.crypto?.();
  if (!crypto) throw new CommandError("This platform has no random numbers", { code: "ENOTSUP" });
  return makeToken((bytes) => crypto.randomBytes(bytes));
}

function refusal(message: string): BlockError {
  return new BlockError({ code: "EINVAL", op: "serve-nbd", message });
}

function placeOf(
  text: string,
  { name, tls }: { name: string; tls: boolean },
): { address: SocketAddress; urlOf: (bound: SocketAddress) => string } {
  const scheme = tls ? "nbds" : "nbd";
  const path = encodeURIComponent(name);
  const address = readAddress(text);
  if (!address) throw refusal(`'${text}' is no address to listen on: unix:PATH, HOST:PORT or ws:HOST:PORT`);
  if (address.type === "unix") {
    const url = `${scheme}+unix:///${path}?socket=${encodeURIComponent(address.path)}`;
    return { address, urlOf: () => url };
  }
  const { host, port } = address;
  return {
    address,
    // Of port 0 the one that the system chose.
    urlOf: (bound) => `${scheme}://${bracketed(host)}:${bound.type === "inet" ? bound.port : port}/${path}`,
  };
}
