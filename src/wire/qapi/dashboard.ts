/**
 * The commands that a dashboard's monitor has beside the daemon's: what QEMU's schema has no words for. A table of its own, so that
 * other monitors answer as QEMU's do.
 */
import { command, enumOf, struct } from "./schema.ts";
import { type HandlersArgs, type HandlersReturn, type Schema } from "./table.ts";
import type { typeTable } from "./types.ts";

const dashboardTypes = {
  XBlockwrightFailure: struct({
    operation: "IoOperationType",
    action: "BlockErrorAction",
    errno: "str",
    "*node-name": "str",
    "*offset": "int",
    "*bytes": "int",
  }),
  XBlockwrightJob: struct({
    id: "str",
    "*on-source-error": "BlockdevOnError",
    "*on-target-error": "BlockdevOnError",
    "user-paused": "bool",
    verbs: ["str"],
    "*failure": "XBlockwrightFailure",
  }),
  XBlockwrightExport: struct({
    id: "str",
    type: "str",
    "node-name": "str",
    "*name": "str",
    clients: "int",
    "shutting-down": "bool",
  }),
  XBlockwrightMapState: enumOf("hole", "zero", "backing", "data"),
  XBlockwrightMapExtent: struct({ cell: "int", cells: "int", state: "XBlockwrightMapState" }),
  XBlockwrightMap: struct({ size: "int", "cell-bytes": "int", extents: ["XBlockwrightMapExtent"] }),
} as const;

const dashboardCommands = {
  "x-blockwright-query-jobs": command({ returns: ["XBlockwrightJob"] }),
  "x-blockwright-query-exports": command({ returns: ["XBlockwrightExport"] }),
  "x-blockwright-query-map": command({
    data: { "node-name": "str", "*max-cells": "int" },
    returns: "XBlockwrightMap",
  }),
} as const;

type Types = typeof typeTable & typeof dashboardTypes;
type Commands = typeof dashboardCommands;

/** The name of such a command. */
export type DashboardCommandName = keyof Commands;
/** Its arguments. */
export type DashboardArgsOf<N extends DashboardCommandName> = HandlersArgs<Types, Commands[N]>;
/** What it answers. */
export type DashboardReturnOf<N extends DashboardCommandName> = HandlersReturn<Types, Commands[N]>;

/** The schema of a monitor, with what a dashboard's has beside it. */
export function dashboardSchema({ types, commands, events }: Schema): Schema {
  return {
    types: { ...types, ...dashboardTypes },
    commands: { ...commands, ...dashboardCommands },
    events,
  };
}
