/**
 * WebSockets of a server in Node, by the optional package ws, which is loaded when the first one is wanted.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { BlockError } from "../../base/errors.ts";
import type { SocketTaker } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import { WebSocketConnection } from "../web-socket.ts";

/** A message may hold NBD's largest payload and its head. */
const LIMITS = { perMessageDeflate: false, maxPayload: 33 * MiB } as const;

/** Loads the package. Rejects with ENOTSUP where it is not installed. */
function load() {
  return import("ws").catch((cause: unknown) => {
    const message = "WebSockets need the package ws, which is not installed: npm install ws";
    throw new BlockError({ code: "ENOTSUP", op: "websocket", message, cause });
  });
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
