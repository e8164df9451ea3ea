/**
 * A disk for NBD's clients: qemu-img, nbdcopy, nbd-client, virtual machines, another engine.
 *
 * Invariants: the server and its one export live and end together; who uses it when it is closed has their requests answered first.
 */
import { asyncDispose } from "../base/lease.ts";
import { BlockError } from "../base/errors.ts";
import type { SocketAddress } from "../base/host.ts";
import { exportsOf } from "../export/exports.ts";
import { checkReach, listenAddress } from "../server/nbd/address.ts";
import { tlsCredentialsOf } from "../server/nbd/credentials.ts";
import { NbdServer } from "../server/nbd/server.ts";
import type { CallOptions, Node } from "./node.ts";
import { callOptions, checkNodes, optionsOf } from "./options.ts";

/** Options of serveNbd(). */
export interface ServeNbdOptions extends CallOptions {
  /** Where it listens: `unix:PATH`, or `HOST:PORT`, which is a loopback address but with `tlsCreds` or `allowPlainTcp`. */
  address: string;
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
  /** Told how many clients there are, whenever that changes. */
  onClients?: (clients: number) => void;
}

/** A disk that is served. */
export interface NbdService extends AsyncDisposable {
  /** By which clients find it: `nbd://HOST:PORT/NAME`, `nbd+unix:///NAME?socket=PATH`. */
  readonly url: string;
  /** Clients there are now. */
  readonly clients: number;
  /** Takes nobody new, answers what is under way, and lets the disk go. May be called again. */
  close(): Promise<void>;
}

const checkOptions = optionsOf<ServeNbdOptions>({
  ...callOptions,
  address: "str",
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
  options.signal?.throwIfAborted();
  const { engine } = node;
  const { name = "", description, writable = false, writethrough, bitmaps, allocationDepth } = options;
  const credentials =
    options.tlsCreds === undefined ? undefined : tlsCredentialsOf(engine, options.tlsCreds, "server");
  const { address, url } = readAddress(options.address, { name, tls: credentials !== undefined });
  checkReach(address, { tls: credentials !== undefined, allowed: options.allowPlainTcp ?? false });
  let clients = 0;
  const server = await NbdServer.start({
    host: engine.graph.host,
    address,
    credentials,
    maxConnections: options.maxConnections,
    onClients: (now) => {
      clients = now;
      options.onClients?.(now);
    },
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

function readAddress(
  text: string,
  { name, tls }: { name: string; tls: boolean },
): { address: SocketAddress; url: string } {
  const scheme = tls ? "nbds" : "nbd";
  const path = encodeURIComponent(name);
  if (text.startsWith("unix:")) {
    const socket = text.slice("unix:".length);
    const address = listenAddress({ type: "unix", path: socket });
    return { address, url: `${scheme}+unix:///${path}?socket=${encodeURIComponent(socket)}` };
  }
  const [, host, port] = /^(?:tcp:)?(.+):(\d+)$/.exec(text) ?? [];
  if (host === undefined || port === undefined) {
    const message = `'${text}' is no address to listen on: unix:PATH or HOST:PORT`;
    throw new BlockError({ code: "EINVAL", op: "serve-nbd", message });
  }
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  const shown = bare.includes(":") ? `[${bare}]` : bare;
  return {
    address: listenAddress({ type: "inet", host: bare, port }),
    url: `${scheme}://${shown}:${port}/${path}`,
  };
}
