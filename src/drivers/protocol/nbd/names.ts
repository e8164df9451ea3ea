/**
 * The names of NBD's client: URIs (`nbd://HOST:PORT/EXPORT`, `nbd+unix:///EXPORT?socket=PATH`, `nbds:` for TLS), the older
 * `nbd:HOST:PORT:exportname=NAME` and `nbd:unix:PATH`, those of WebSockets (web-names.ts), and the options `host`, `port` and `path` that are older than `server`.
 * Source: the NBD URI specification; behaviour of QEMU 7.2, which knows neither `nbds:` nor `nbds+unix:`: they are libnbd's.
 */
import { CommandError } from "../../../base/errors.ts";
import type { ParsedName } from "../../../block/model/contract.ts";
import { parseWebName, plainWebName } from "./web-names.ts";

/** The port of NBD. */
const NBD_PORT = "10809";

type Options = Record<string, string | Record<string, string>>;

/** Reads a name. Throws CommandError in QEMU's words. */
export function parseNbdName(name: string): ParsedName {
  if (/^nbd\+wss?:/i.test(name)) return parseWebName(name);
  return { options: name.includes("://") ? parseUri(name) : parseLegacy(name) };
}

function invalid(): CommandError {
  return new CommandError("No valid URL specified");
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid();
  }
}

function parseUri(name: string): Options {
  const parts = /^([a-z+]+):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?$/i.exec(name);
  if (!parts) throw invalid();
  const [, scheme = "", authority = "", path = "", query = ""] = parts;
  const isUnix = scheme.endsWith("+unix");
  const parameters = query.split(/[&;]/).filter((part) => part !== "");
  if (isUnix !== (parameters.length === 1) || (!isUnix && parameters.length > 0)) throw invalid();
  const exportName = decoded(path.replace(/^\//, ""));
  return {
    server: isUnix ? unixServer(authority, parameters[0]!) : inetServer(authority),
    ...(exportName === "" ? {} : { export: exportName }),
    ...(scheme.startsWith("nbds") ? { tls: "on" } : {}),
  };
}

function unixServer(authority: string, parameter: string): Record<string, string> {
  const [key, ...value] = parameter.split("=");
  if (authority !== "" || key !== "socket") throw invalid();
  return { type: "unix", path: decoded(value.join("=")) };
}

function inetServer(authority: string): Record<string, string> {
  const host = /^(?:[^@]*@)?(\[[^\]]+\]|[^:]+)(?::(\d*))?$/.exec(authority);
  if (!host) throw invalid();
  const [, name = "", port = ""] = host;
  return {
    type: "inet",
    host: decoded(name.replace(/^\[(.*)\]$/, "$1")),
    port: port === "" || Number(port) === 0 ? NBD_PORT : port,
  };
}

const EXPORT_NAME = ":exportname=";

function parseLegacy(name: string): Options {
  const at = name.indexOf(EXPORT_NAME);
  const exportName = at < 0 ? undefined : name.slice(at + EXPORT_NAME.length);
  const where = at < 0 ? name : name.slice(0, at);
  if (!where.startsWith("nbd:"))
    throw new CommandError("File name string for new protocols must start with 'nbd:'");
  const place = where.slice("nbd:".length);
  // QEMU reads nothing at all out of these two.
  if (exportName === "" || place === "") return {};
  const server = place.startsWith("unix:")
    ? { type: "unix", path: place.slice("unix:".length) }
    : legacyInet(place);
  return { server, ...(exportName === undefined ? {} : { export: exportName }) };
}

function legacyInet(place: string): Record<string, string> {
  const found = /^(\[[^\]]*\]|[^:]*):([^,:]+)(?:,.*)?$/.exec(place);
  if (!found) throw new CommandError(`error parsing address '${place}'`);
  const [, host = "", port = ""] = found;
  return { type: "inet", host: host.replace(/^\[(.*)\]$/, "$1"), port };
}

/** `host`, `port` and `path` as `server`. Throws CommandError. */
export function modernNbdOptions(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { host, port, path, ...rest } = options;
  if (path !== undefined && host !== undefined)
    throw new CommandError("path and host may not be used at the same time");
  if (path === undefined && host === undefined) {
    if (port !== undefined || options["server"] === undefined)
      throw new CommandError("NBD server address missing");
    return { ...options };
  }
  if (options["server"] !== undefined)
    throw new CommandError("Cannot use 'server' and path/host/port at the same time");
  const place = path === undefined ? { type: "inet", host, port: port ?? NBD_PORT } : { type: "unix", path };
  return { ...rest, server: place };
}

/** The shortest name of a server and an export, as QEMU prints it; undefined for servers that have none. */
export function plainNbdName(options: Readonly<Record<string, unknown>>): string | undefined {
  const text = (key: string): string | undefined =>
    typeof options[key] === "string" ? options[key] : undefined;
  const [path, host, port] = [text("server.path"), text("server.host"), text("server.port")];
  const exportName = text("export");
  const url = text("server.url");
  if (url !== undefined) return plainWebName(url, exportName);
  const scheme = options["tls"] === true ? "nbds" : "nbd";
  if (path !== undefined) {
    const start = exportName === undefined ? "" : `/${exportName}`;
    return `${scheme}+unix://${start}?socket=${path}`;
  }
  if (host === undefined || port === undefined) return undefined;
  return `${scheme}://${host}:${port}${exportName === undefined ? "" : `/${exportName}`}`;
}
