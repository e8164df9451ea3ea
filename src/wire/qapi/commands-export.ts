/**
 * The commands on exports and on the NBD server, in the order in which QEMU lists them.
 * Source: QAPI block-export schema, QEMU 7.2.
 */
import { command } from "./schema.ts";

/** The commands on exports. */
export const exportCommands = {
  "nbd-server-start": command({
    data: {
      addr: "SocketAddressLegacy",
      "*tls-creds": "str",
      "*tls-authz": "str",
      "*max-connections": "uint32",
    },
  }),
  "nbd-server-add": command({ data: "NbdServerAddOptions" }, "deprecated"),
  "nbd-server-remove": command({ data: { name: "str", "*mode": "BlockExportRemoveMode" } }, "deprecated"),
  "nbd-server-stop": command(),
  "block-export-add": command({ data: "BlockExportOptions" }),
  "block-export-del": command({ data: { id: "str", "*mode": "BlockExportRemoveMode" } }),
  "query-block-exports": command({ returns: ["BlockExportInfo"] }),
} as const;
