/**
 * Names of disks behind WebSockets, `nbd+ws://HOST:PORT/EXPORT?token=TOKEN` and `nbd+wss:` for TLS, which are all that pages can reach.
 * Other servers than ours have paths of their own, which the option `server.url` takes.
 */
import { CommandError } from "../../../base/errors.ts";
import type { ParsedName } from "../../../block/model/contract.ts";

/** Protocols of such names. */
export const WEB_PROTOCOLS = ["nbd+ws", "nbd+wss"] as const;
/** Where our servers have NBD. */
const PATH = "/nbd";

/** Reads a name. Throws CommandError. */
export function parseWebName(name: string): ParsedName {
  const [, scheme, authority, path = "", query = ""] =
    /^nbd\+(wss?):\/\/([^/?#@]+)(?:\/([^?#]*))?(\?[^#]*)?$/i.exec(name) ?? [];
  if (scheme === undefined || authority === undefined) throw new CommandError("No valid URL specified");
  const server = { type: "websocket", url: `${scheme.toLowerCase()}://${authority}${PATH}${query}` };
  return { options: { server, ...(path === "" ? {} : { export: decoded(path) }) } };
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new CommandError("No valid URL specified");
  }
}

/** The name of a server of ours and an export, without its token; undefined for others. */
export function plainWebName(url: string, exportName = ""): string | undefined {
  const [, scheme, authority] = /^(wss?):\/\/([^/?#]+)\/nbd(?:\?.*)?$/i.exec(url) ?? [];
  if (scheme === undefined) return undefined;
  return `nbd+${scheme}://${authority}/${exportName}`;
}
