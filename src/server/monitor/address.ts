/** Where a QMP server listens, as people write it: `unix:PATH` or `tcp:HOST:PORT`, QEMU's short forms. */
import { blockError } from "../../base/errors.ts";
import type { SocketAddress } from "../../base/host.ts";

const MAX_PORT = 65_535;

/** Reads an address. Throws EINVAL for anything else. */
export function socketAddress(text: string): SocketAddress {
  const unix = /^unix:(.+)$/s.exec(text)?.[1];
  if (unix !== undefined) return { type: "unix", path: unix };
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = tcp?.[1] ?? tcp?.[2];
  const port = Number(tcp?.[3]);
  if (host !== undefined && port <= MAX_PORT) return { type: "inet", host, port };
  throw blockError("EINVAL", "connect", `'${text}' is no address of a socket: unix:PATH or tcp:HOST:PORT`);
}
