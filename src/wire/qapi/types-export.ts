/**
 * Exports of nodes, and the NBD server that serves them.
 * Source: QAPI block-export schema, QEMU 7.2.
 */
import { enumOf, extend, struct, union } from "./schema.ts";

/** The types of exports. */
export const exportTypes = {
  InetSocketAddressWrapper: struct({ data: "InetSocketAddress" }),
  UnixSocketAddressWrapper: struct({ data: "UnixSocketAddress" }),
  VsockSocketAddressWrapper: struct({ data: "VsockSocketAddress" }),
  StringWrapper: struct({ data: "String" }),
  SocketAddressLegacy: union({
    base: { type: "SocketAddressType" },
    tag: "type",
    branches: {
      inet: "InetSocketAddressWrapper",
      unix: "UnixSocketAddressWrapper",
      vsock: "VsockSocketAddressWrapper",
      fd: "StringWrapper",
    },
  }),

  NbdServerOptions: struct({
    addr: "SocketAddress",
    "*tls-creds": "str",
    "*tls-authz": "str",
    "*max-connections": "uint32",
  }),
  BlockExportOptionsNbdBase: struct({ "*name": "str", "*description": "str" }),
  BlockExportOptionsNbd: extend("BlockExportOptionsNbdBase", {
    "*bitmaps": ["BlockDirtyBitmapOrStr"],
    "*allocation-depth": "bool",
  }),
  BlockExportOptionsVhostUserBlk: struct({
    addr: "SocketAddress",
    "*logical-block-size": "size",
    "*num-queues": "uint16",
  }),
  FuseExportAllowOther: enumOf("off", "on", "auto"),
  BlockExportOptionsFuse: struct({
    mountpoint: "str",
    "*growable": "bool",
    "*allow-other": "FuseExportAllowOther",
  }),
  BlockExportOptionsVduseBlk: struct({
    name: "str",
    "*num-queues": "uint16",
    "*queue-size": "uint16",
    "*logical-block-size": "size",
    "*serial": "str",
  }),
  NbdServerAddOptions: extend("BlockExportOptionsNbdBase", {
    device: "str",
    "*writable": "bool",
    "*bitmap": "str",
  }),
  BlockExportRemoveMode: enumOf("safe", "hard"),
  BlockExportType: enumOf("nbd", "vhost-user-blk", "fuse", "vduse-blk"),
  BlockExportOptions: union({
    base: {
      type: "BlockExportType",
      id: "str",
      "*fixed-iothread": "bool",
      "*iothread": "str",
      "node-name": "str",
      "*writable": "bool",
      "*writethrough": "bool",
    },
    tag: "type",
    branches: {
      nbd: "BlockExportOptionsNbd",
      "vhost-user-blk": "BlockExportOptionsVhostUserBlk",
      fuse: "BlockExportOptionsFuse",
      "vduse-blk": "BlockExportOptionsVduseBlk",
    },
  }),
  BlockExportInfo: struct({
    id: "str",
    type: "BlockExportType",
    "node-name": "str",
    "shutting-down": "bool",
  }),
} as const;
