/**
 * The sockets of pages and workers: WebSockets to servers.
 */
import { blockError } from "../../base/errors.ts";
import type { HostSockets } from "../../base/host.ts";
import { connectFromPage } from "../web-socket.ts";

/** They connect to addresses of type `websocket` (ENOTSUP for others), and listen nowhere. */
export const pageSockets: HostSockets = {
  connect: connectFromPage,
  listen: () => Promise.reject(blockError("ENOTSUP", "listen")),
};
