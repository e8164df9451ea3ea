/**
 * The schema of a machine's monitor: the storage daemon's and what only a machine has. Invariant (tested): every name that it uses
 * is defined in it.
 */
import { type HandlersArgs, type HandlersReturn, type Schema, schema } from "../table.ts";
import { typeTable } from "../types.ts";
import type { MembersOf } from "../schema.ts";
import { machineCommands, machineEvents, machineTypes } from "./commands.ts";

const types = { ...typeTable, ...machineTypes } as const;

type Types = typeof types;
type Commands = typeof machineCommands;

/** The name of a command that only a machine has. */
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

/** The schema of a machine. */
export const machineSchema: Schema = {
  types,
  commands: { ...schema.commands, ...machineCommands },
  events: { ...schema.events, ...machineEvents },
};
