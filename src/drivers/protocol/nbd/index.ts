/**
 * nbd: a disk on an NBD server, over TCP, a Unix socket or a WebSocket, with or without TLS. Platform: Host.sockets.
 * Source: QAPI BlockdevOptionsNbd; behaviour of QEMU 7.2's client; doc/proto.md of NBD.
 */
import type { DriverType } from "../../../block/model/contract.ts";
import { makeInPlace } from "../../../block/graph/in-place.ts";
import { modernNbdOptions, parseNbdName, plainNbdName } from "./names.ts";
import { openNbd } from "./open.ts";
import { WEB_PROTOCOLS } from "./web-names.ts";

/**
 * Options: those of QEMU (`server`, `export`, `tls-creds`, `tls-hostname`, `x-dirty-bitmap`, `reconnect-delay`,
 * `open-timeout`), `tls`: TLS by the platform's own authorities, and servers of type `websocket`. Errors of requests: those that the server
 * answers, EIO (the link is lost, or the server broke the protocol), ESTALE (the export is another one).
 */
export const nbd: DriverType = {
  name: "nbd",
  kind: "protocol",
  protocols: ["nbd+tcp", "nbd+unix", "nbds", "nbds+unix", ...WEB_PROTOCOLS],
  makeInPlace,
  parseName: parseNbdName,
  modernOptions: modernNbdOptions,
  namedBy: ["server", "export", "tls-creds", "tls-hostname", "tls"].flatMap((name) =>
    name === "server" ? ["type", "path", "host", "port", "url"].map((member) => `server.${member}`) : name,
  ),
  plainName: plainNbdName,
  open: openNbd,
};
