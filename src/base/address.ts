/**
 * Where sockets are, as people write it: `unix:PATH`, or `HOST:PORT` with `tcp:` before it or not. An IPv6 address stands in brackets,
 * since its colons would leave open where the port begins.
 */
import type { SocketAddress } from "./host.ts";

const MAX_PORT = 65_535;

/** Reads an address; undefined for what is none. */
export function readAddress(text: string): Exclude<SocketAddress, { type: "fd" }> | undefined {
  const path = /^unix:(.+)$/s.exec(text)?.[1];
  if (path !== undefined) return { type: "unix", path };
  const place = text.startsWith("tcp:") ? text.slice("tcp:".length) : text;
  const [, bracketed, name, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(place) ?? [];
  const host = bracketed ?? name;
  const port = Number(digits);
  return host !== undefined && port <= MAX_PORT ? { type: "inet", host, port } : undefined;
}
