/**
 * The commands that the monitors of both programs, the storage daemon and the machine, have beside an engine's, and their types: the
 * tree of objects and character devices. Source: QAPI qom and char schemas, QEMU 7.2.
 */
import { command, enumOf, extend, struct, union } from "../schema.ts";

/** The types. */
export const programTypes = {
  ObjectTypeInfo: struct({ name: "str", "*abstract": "bool", "*parent": "str" }),
  ChardevInfo: struct({ label: "str", filename: "str", "frontend-open": "bool" }),
  ChardevBackendInfo: struct({ name: "str" }),
  DataFormat: enumOf("utf8", "base64"),
  ChardevReturn: struct({ "*pty": "str" }),
  ChardevCommon: struct({ "*logfile": "str", "*logappend": "bool" }),
  ChardevFile: extend("ChardevCommon", { "*in": "str", out: "str", "*append": "bool" }),
  ChardevStdio: extend("ChardevCommon", { "*signal": "bool" }),
  ChardevRingbuf: extend("ChardevCommon", { "*size": "int" }),
  ChardevSocket: extend("ChardevCommon", {
    addr: "SocketAddressLegacy",
    "*tls-creds": "str",
    "*tls-authz": "str",
    ...{ "*server": "bool", "*wait": "bool", "*nodelay": "bool", "*telnet": "bool", "*tn3270": "bool" },
    "*websocket": "bool",
    "*reconnect": "int",
  }),
  ChardevFileWrapper: struct({ data: "ChardevFile" }),
  ChardevStdioWrapper: struct({ data: "ChardevStdio" }),
  ChardevRingbufWrapper: struct({ data: "ChardevRingbuf" }),
  ChardevSocketWrapper: struct({ data: "ChardevSocket" }),
  ChardevCommonWrapper: struct({ data: "ChardevCommon" }),
  ChardevBackendKind: enumOf("file", "socket", "null", "stdio", "ringbuf", "memory"),
  ChardevBackend: union({
    base: { type: "ChardevBackendKind" },
    tag: "type",
    branches: {
      file: "ChardevFileWrapper",
      socket: "ChardevSocketWrapper",
      null: "ChardevCommonWrapper",
      stdio: "ChardevStdioWrapper",
      ringbuf: "ChardevRingbufWrapper",
      memory: "ChardevRingbufWrapper",
    },
  }),
} as const;

const charAdd = { data: { id: "str", backend: "ChardevBackend" }, returns: "ChardevReturn" } as const;

/** The commands. */
export const programCommands = {
  "qom-get": command({ data: { path: "str", property: "str" }, returns: "any" }),
  "qom-set": command({ data: { path: "str", property: "str", value: "any" } }),
  "qom-list-types": command({
    data: { "*implements": "str", "*abstract": "bool" },
    returns: ["ObjectTypeInfo"],
  }),
  "qom-list-properties": command({ data: { typename: "str" }, returns: ["ObjectPropertyInfo"] }),
  "query-chardev": command({ returns: ["ChardevInfo"] }),
  "query-chardev-backends": command({ returns: ["ChardevBackendInfo"] }),
  "ringbuf-write": command({ data: { device: "str", data: "str", "*format": "DataFormat" } }),
  "ringbuf-read": command({ data: { device: "str", size: "int", "*format": "DataFormat" }, returns: "str" }),
  "chardev-add": command(charAdd),
  "chardev-change": command(charAdd),
  "chardev-remove": command({ data: { id: "str" } }),
  "chardev-send-break": command({ data: { id: "str" } }),
} as const;
