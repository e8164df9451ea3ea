/**
 * nbd in pages: a disk on an NBD server that is reached by WebSocket.
 */
import type { DriverType } from "../../../block/model/contract.ts";
import { parseWebName, plainWebName, WEB_PROTOCOLS } from "./web-names.ts";

/**
 * Options and errors: those of `nbd` (index.ts), of which `server` is of type `websocket`, and TLS its URL's. `open` is the whole of
 * it, which an entry may load when the first of its disks is opened.
 */
export function webNbdBy(open: DriverType["open"]): DriverType {
  return {
    name: "nbd",
    kind: "protocol",
    protocols: WEB_PROTOCOLS,
    parseName: parseWebName,
    namedBy: ["server.type", "server.url", "export"],
    plainName: ({ "server.url": url, export: name }) =>
      typeof url === "string" ? plainWebName(url, typeof name === "string" ? name : "") : undefined,
    open,
  };
}
