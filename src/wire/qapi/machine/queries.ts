/**
 * What clients ask of a machine that has nothing to do with its disks, as far as there is an answer without a guest; descriptors,
 * snapshots of all disks as jobs, and latency histograms. Source: QAPI machine, misc, migration, qdev and block schemas, QEMU 7.2.
 */
import { command, enumOf, struct } from "../schema.ts";

/** The types. */
export const machineQueryTypes = {
  KvmInfo: struct({ enabled: "bool", present: "bool" }),
  NameInfo: struct({ "*name": "str" }),
  UuidInfo: struct({ UUID: "str" }),
  SysEmuTarget: enumOf("x86_64"),
  TargetInfo: struct({ arch: "SysEmuTarget" }),
  CurrentMachineParams: struct({ "wakeup-suspend-support": "bool" }),
  MachineInfo: struct({
    ...{ name: "str", "*alias": "str", "*is-default": "bool", "cpu-max": "int", "hotpluggable-cpus": "bool" },
    ...{
      "numa-mem-supported": "bool",
      deprecated: "bool",
      "*default-cpu-type": "str",
      "*default-ram-id": "str",
    },
  }),
  CpuInfoFast: struct({ "cpu-index": "int", "qom-path": "str", "thread-id": "int", target: "SysEmuTarget" }),
  AddfdInfo: struct({ "fdset-id": "int", fd: "int" }),
  FdsetFdInfo: struct({ fd: "int", "*opaque": "str" }),
  FdsetInfo: struct({ "fdset-id": "int", fds: ["FdsetFdInfo"] }),
} as const;

const jobOnDisks = { "job-id": "str", tag: "str", devices: ["str"] } as const;
const jobWithState = { "job-id": "str", tag: "str", vmstate: "str", devices: ["str"] } as const;

/** The commands. */
export const machineQueries = {
  "block-latency-histogram-set": command({
    data: {
      id: "str",
      "*boundaries": ["uint64"],
      "*boundaries-read": ["uint64"],
      "*boundaries-write": ["uint64"],
      "*boundaries-flush": ["uint64"],
    },
  }),
  "device-list-properties": command({ data: { typename: "str" }, returns: ["ObjectPropertyInfo"] }),
  "snapshot-save": command({ data: jobWithState }),
  "snapshot-load": command({ data: jobWithState }),
  "snapshot-delete": command({ data: jobOnDisks }),
  "query-kvm": command({ returns: "KvmInfo" }),
  "query-name": command({ returns: "NameInfo" }),
  "query-uuid": command({ returns: "UuidInfo" }),
  "query-target": command({ returns: "TargetInfo" }),
  "query-current-machine": command({ returns: "CurrentMachineParams" }),
  "query-machines": command({ returns: ["MachineInfo"] }),
  "query-cpus-fast": command({ returns: ["CpuInfoFast"] }),
  getfd: command({ data: { fdname: "str" } }),
  closefd: command({ data: { fdname: "str" } }),
  "add-fd": command({ data: { "*fdset-id": "int", "*opaque": "str" }, returns: "AddfdInfo" }),
  "remove-fd": command({ data: { "fdset-id": "int", "*fd": "int" } }),
  "query-fdsets": command({ returns: ["FdsetInfo"] }),
} as const;
