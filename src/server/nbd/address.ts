/**
 * Where a server listens, as QAPI describes it, and whether it may: whoever reaches a plain TCP port has the disk.
 * Source: QAPI sockets schema, QEMU 7.2; the rule on addresses is ours.
 */
import { CommandError } from "../../base/errors.ts";
import type { SocketAddress } from "../../base/host.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";

const MAX_PORT = 65_535;

/** A port by its number, or NBD's by its name. */
function portOf(host: string, port: string): number {
  const number = port === "nbd" ? 10_809 : /^\d{1,5}$/.test(port) ? Number(port) : MAX_PORT + 1;
  if (number > MAX_PORT)
    throw new CommandError(
      `address resolution failed for ${host}:${port}: Servname not supported for ai_socktype`,
    );
  return number;
}

/** The address of a description. Throws CommandError. */
export function listenAddress(addr: TypeOf<"SocketAddress">): SocketAddress {
  if (addr.type === "unix") return { type: "unix", path: addr.abstract ? `\0${addr.path}` : addr.path };
  if (addr.type === "inet") {
    return { type: "inet", host: addr.host, port: portOf(addr.host, addr.port) };
  }
  if (addr.type === "fd" && /^\d+$/.test(addr.str)) return { type: "fd", fd: Number(addr.str) };
  throw new CommandError(`socket family ${addr.type} unsupported`, { code: "ENOTSUP" });
}

/** The same of the form with `data`. */
export function listenAddressLegacy(addr: TypeOf<"SocketAddressLegacy">): SocketAddress {
  return listenAddress({ type: addr.type, ...addr.data } as TypeOf<"SocketAddress">);
}

/** Whether only this machine's programs reach the address. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Throws CommandError for an address that others reach, without TLS and without leave. */
export function checkReach(
  address: SocketAddress,
  { tls, allowed }: { tls: boolean; allowed: boolean },
): void {
  if (address.type !== "inet" || isLoopback(address.host) || tls || allowed) return;
  throw new CommandError(
    `Listening on '${address.host}' without TLS is refused: whoever reaches the port would have the disk; ` +
      "use a loopback address, TLS, or --allow-plain-tcp",
    { code: "EPERM" },
  );
}
