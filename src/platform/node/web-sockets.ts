/**
 * WebSockets in Node, a server's and a client's, by the optional package ws, which is loaded when the first one is wanted.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { BlockError, blockError } from "../../base/errors.ts";
import type { ConnectOptions, HostConnection, SocketTaker, WebSocketAddress } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import { opened, WebSocketConnection } from "../web-socket.ts";
import { contextOptions } from "./tls.ts";

/** A message may hold NBD's largest payload and its head. */
const LIMITS = { perMessageDeflate: false, maxPayload: 33 * MiB } as const;

/** Loads the package. Rejects with ENOTSUP where it is not installed. */
function load() {
  return import("ws").catch((cause: unknown) => {
    const message = "WebSockets need the package ws, which is not installed: npm install ws";
    throw new BlockError({ code: "ENOTSUP", op: "websocket", message, cause });
  });
}

/** Connects. Rejects with ENOTSUP without the package, EINVAL for what is no URL, ECONNREFUSED, or the signal's reason. */
export async function connectWebSocket(
  { url, credentials }: WebSocketAddress,
  options: ConnectOptions,
): Promise<HostConnection> {
  const { WebSocket } = await load();
  options.signal?.throwIfAborted();
  if (!/^wss?:\/\/./i.test(url) || !URL.canParse(url))
    throw blockError("EINVAL", "connect", `'${url}' is no URL of a WebSocket`);
  const verifies = credentials?.kind !== "x509" || credentials.verifyPeer;
  const tls = credentials ? { ...contextOptions(credentials), rejectUnauthorized: verifies } : {};
  return opened(new WebSocket(url, { ...LIMITS, ...tls }), options);
}

/** What a server does with requests for WebSockets. */
export interface Upgrades {
  /** The listener of Node's event. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Uint8Array): void;
  /** Drops all sockets. */
  end(): void;
}

/** Takes the sockets that `decide` wants, refuses others by the status it says. */
export async function webSocketUpgrades(
  decide: (request: IncomingMessage) => SocketTaker | number,
): Promise<Upgrades> {
  const { WebSocketServer } = await load();
  const server = new WebSocketServer({ ...LIMITS, noServer: true });
  return {
    upgrade(request, socket, head) {
      const taker = decide(request);
      if (typeof taker === "number") {
        socket.on("error", () => undefined);
        socket.end(`HTTP/1.1 ${taker} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
        return;
      }
      server.handleUpgrade(request, socket, head, (client) =>
        taker.accept(new WebSocketConnection(client, { isText: taker.isText })),
      );
    },
    end() {
      for (const client of server.clients) client.terminate?.();
    },
  };
}
