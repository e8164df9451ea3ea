/**
 * Where sockets are, and the options of NBD's client.
 * Source: QAPI sockets and block-core schemas, QEMU 7.2.
 */
import { enumOf, extend, struct, union } from "./schema.ts";

/** The forms of a socket's address, by their tag. */
const socketAddresses = {
  inet: "InetSocketAddress",
  unix: "UnixSocketAddress",
  vsock: "VsockSocketAddress",
  fd: "String",
} as const;

/** The types of sockets and of what goes over them. */
export const networkTypes = {
  SocketAddressType: () => enumOf("inet", "unix", "vsock", "fd"),
  SocketAddress: () =>
    union({
      base: { type: "SocketAddressType" },
      tag: "type",
      branches: socketAddresses,
    }),
  InetSocketAddressBase: () => struct({ host: "str", port: "str" }),
  InetSocketAddress: () =>
    extend("InetSocketAddressBase", {
      "*numeric": "bool",
      "*to": "uint16",
      "*ipv4": "bool",
      "*ipv6": "bool",
      "*keep-alive": "bool",
      "*mptcp": "bool",
    }),
  UnixSocketAddress: () => struct({ path: "str", "*abstract": "bool", "*tight": "bool" }),
  VsockSocketAddress: () => struct({ cid: "str", port: "str" }),
  String: () => struct({ str: "str" }),

  // Ours: a server behind a WebSocket.
  NbdServerAddressType: () => enumOf("inet", "unix", "vsock", "fd", "websocket"),
  NbdServerAddress: () =>
    union({
      base: { type: "NbdServerAddressType" },
      tag: "type",
      branches: {
        ...socketAddresses,
        websocket: "WebSocketAddress",
      },
    }),
  WebSocketAddress: () => struct({ url: "str" }),

  BlockdevOptionsNbd: () =>
    struct({
      server: "NbdServerAddress",
      "*export": "str",
      "*tls-creds": "str",
      "*tls-hostname": "str",
      "*x-dirty-bitmap": { type: "str", features: ["unstable"] },
      "*reconnect-delay": "uint32",
      "*open-timeout": "uint32",
      "*tls": "bool",
    }),
} as const;
