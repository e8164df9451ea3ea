/**
 * The commands and events that a machine's monitor has beside the storage daemon's, and their types. A table of its own, so that
 * neither the daemon's introspection nor bundles without a machine have them.
 * Source: QAPI block, block-core, qdev, machine, misc, qom and char schemas, QEMU 7.2.
 */
import { command, enumOf, struct, type StructDef } from "../schema.ts";

const deprecated = { type: "str", features: ["deprecated"] } as const;
const medium = { "*device": deprecated, "*id": "str" } as const;

const deviceAdd: StructDef<{ driver: "str"; "*bus": "str"; "*id": "str" }, never> = {
  ...struct({ driver: "str", "*bus": "str", "*id": "str" }),
  isOpen: "kept",
};

/** The types of a machine's commands. */
export const machineTypes = {
  BlockdevChangeReadOnlyMode: enumOf("retain", "read-only", "read-write"),
  BlockIOThrottle: struct({
    ...medium,
    ...{ bps: "int", bps_rd: "int", bps_wr: "int", iops: "int", iops_rd: "int", iops_wr: "int" },
    ...{ "*bps_max": "int", "*bps_rd_max": "int", "*bps_wr_max": "int" },
    ...{ "*iops_max": "int", "*iops_rd_max": "int", "*iops_wr_max": "int" },
    ...{ "*bps_max_length": "int", "*bps_rd_max_length": "int", "*bps_wr_max_length": "int" },
    ...{ "*iops_max_length": "int", "*iops_rd_max_length": "int", "*iops_wr_max_length": "int" },
    "*iops_size": "int",
    "*group": "str",
  }),
  /** What a device has beside these its model knows. */
  DeviceAdd: deviceAdd,
  IOThreadInfo: struct({
    id: "str",
    "thread-id": "int",
    ...{ "poll-max-ns": "int", "poll-grow": "int", "poll-shrink": "int", "aio-max-batch": "int" },
  }),
} as const;

/** The commands that only a machine has. */
export const machineCommands = {
  device_add: command({ data: "DeviceAdd" }, "json-cli", "json-cli-hotplug"),
  device_del: command({ data: { id: "str" } }),
  eject: command({ data: { ...medium, "*force": "bool" } }),
  "blockdev-open-tray": command({ data: { ...medium, "*force": "bool" } }),
  "blockdev-close-tray": command({ data: medium }),
  "blockdev-remove-medium": command({ data: { id: "str" } }),
  "blockdev-insert-medium": command({ data: { id: "str", "node-name": "str" } }),
  "blockdev-change-medium": command({
    data: {
      ...medium,
      filename: "str",
      "*format": "str",
      "*force": "bool",
      "*read-only-mode": "BlockdevChangeReadOnlyMode",
    },
  }),
  block_set_io_throttle: command({ data: "BlockIOThrottle" }),
  "human-monitor-command": command({ data: { "command-line": "str", "*cpu-index": "int" }, returns: "str" }),
  "query-iothreads": command({ returns: ["IOThreadInfo"] }),
  system_reset: command(),
} as const;

/** The events that only a machine sends. */
export const machineEvents = {
  DEVICE_DELETED: { "*device": "str", path: "str" },
  DEVICE_TRAY_MOVED: { device: "str", id: "str", "tray-open": "bool" },
  RESET: { guest: "bool", reason: "ShutdownCause" },
} as const;
