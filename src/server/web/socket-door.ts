/**
 * A door of an NBD server that pages can come in by: WebSockets under `/nbd`, for whoever shows the token and is of no foreign origin.
 */
import { ConnectionQueue } from "../../base/connection-queue.ts";
import type { Host, HostListener, TlsCredentials } from "../../base/host.ts";
import { bracketed } from "./access.ts";
import { startWebServer } from "./server.ts";

/** What it is made of. */
export interface SocketDoorOptions {
  readonly host: Host;
  /** Port 0: any that is free. */
  readonly address: { readonly host: string; readonly port: number };
  readonly token: string;
  /** It may be asked under any name. */
  readonly anyName: boolean;
  /** Origins whose pages may connect, beside its own; `*`: all. */
  readonly origins: readonly string[];
  /** TLS, as the server shows itself by it. */
  readonly credentials?: TlsCredentials | undefined;
}

/** A door that is open. */
export interface SocketDoor extends HostListener {
  /** By which clients find an export of that name, token included. */
  url(exportName: string): string;
}

/** Opens it. Throws CommandError where the platform has no servers, BlockError (EADDRINUSE, ENOTSUP without the package ws). */
export async function openSocketDoor(options: SocketDoorOptions): Promise<SocketDoor> {
  const { address, credentials, token } = options;
  const connections = new ConnectionQueue();
  const accept = connections.push.bind(connections);
  const sockets = new Map([["/nbd", { isText: false, accept }]]);
  const server = await startWebServer({ ...options, sockets });
  const scheme = credentials ? "nbd+wss" : "nbd+ws";
  const where = `${scheme}://${bracketed(address.host)}:${server.port}`;
  return {
    connections,
    url: (exportName) => `${where}/${encodeURIComponent(exportName)}?token=${token}`,
    // Clients that have come in end their requests first, and are the server's to close.
    close: async () => {
      await server.close({ sockets: "keep" });
      await connections.close();
    },
  };
}
