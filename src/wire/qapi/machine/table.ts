/**
 * The schemas of the programs' monitors: what every engine's has, what both programs have beside it, and what only a machine has. Invariant (tested): every name that it uses
 * is defined in it.
 */
import { type HandlersArgs, type HandlersReturn, type Schema, schema } from "../table.ts";
import { typeTable } from "../types.ts";
import type { MembersOf } from "../schema.ts";
import { machineCommands, machineEvents, machineTypes } from "./commands.ts";
import { programCommands, programTypes } from "./program.ts";
import { machineQueries, machineQueryTypes } from "./queries.ts";

const daemonTypes = { ...typeTable, ...programTypes } as const;
const types = { ...daemonTypes, ...machineTypes, ...machineQueryTypes } as const;
const commands = { ...programCommands, ...machineCommands, ...machineQueries } as const;

type Types = typeof types;
type Commands = typeof commands;

/** The name of a command that a machine, or both programs, have beside an engine's. */
export type MachineCommandName = keyof Commands;

/** The arguments of such a command. */
export type MachineArgsOf<N extends MachineCommandName> = HandlersArgs<Types, Commands[N]>;

/** What such a command answers. */
export type MachineReturnOf<N extends MachineCommandName> = HandlersReturn<Types, Commands[N]>;

type Events = typeof machineEvents;

/** The events that only a machine sends. */
export type MachineEvent = {
  [N in keyof Events]: { event: N; data: MembersOf<Types, Events[N]> };
}[keyof Events];

/** The schema of the storage daemon. */
export const daemonSchema: Schema = {
  types: daemonTypes,
  commands: { ...schema.commands, ...programCommands },
  events: schema.events,
};

/** The schema of a machine. */
export const machineSchema: Schema = {
  types,
  commands: { ...schema.commands, ...commands },
  events: { ...schema.events, ...machineEvents },
};
