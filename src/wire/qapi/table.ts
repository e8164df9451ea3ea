/**
 * The whole schema, put together, and the TypeScript types of every command's arguments, every answer and every event.
 * Invariant (tested): every name that the table uses is defined in it.
 */
import { blockCommands } from "./commands-block.ts";
import { exportCommands } from "./commands-export.ts";
import { controlCommands } from "./commands-control.ts";
import { eventTable } from "./events.ts";
import type {
  CommandDef,
  CommandTable,
  EventTable,
  Members,
  MembersOf,
  TypeTable,
  ValueOf,
} from "./schema.ts";
import { typeTable } from "./types.ts";

const commandTable = /* @__PURE__ */ Object.assign({}, blockCommands, exportCommands, controlCommands);

type Types = typeof typeTable;
type Commands = typeof commandTable;
type Events = typeof eventTable;

/** A command's name. */
export type CommandName = keyof Commands;
/** An event's name. */
export type EventName = keyof Events;
/** A defined type's name. */
export type TypeName = keyof Types;

/** The values of a type of the table, for instance `TypeOf<"BlockdevOptions">`. */
export type TypeOf<N extends TypeName> = ValueOf<Types, N>;

type DataOf<T extends TypeTable, D> = D extends string
  ? ValueOf<T, D>
  : D extends Members
    ? MembersOf<T, D>
    : never;

/** The arguments of a command `C` whose types are in the table `T`. */
export type HandlersArgs<T extends TypeTable, C> =
  C extends CommandDef<infer A, infer _> ? DataOf<T, A> : never;

/** What such a command answers; `void` is `{}` on the wire. */
export type HandlersReturn<T extends TypeTable, C> =
  C extends CommandDef<infer _, infer R> ? ([R] extends [never] ? void : ValueOf<T, R>) : never;

/** The arguments of a command. */
export type ArgsOf<N extends CommandName> = HandlersArgs<Types, Commands[N]>;

/** What a command answers; `void` is `{}` on the wire. */
export type ReturnOf<N extends CommandName> = HandlersReturn<Types, Commands[N]>;

/** The `data` of an event. */
export type EventDataOf<N extends EventName> = MembersOf<Types, Events[N]>;

/** An event, told apart by its name. */
export type QmpEvent = {
  [N in EventName]: { readonly event: N; readonly data: EventDataOf<N> };
}[EventName];

/** A node's description: the arguments of blockdev-add. */
export type BlockdevOptions = TypeOf<"BlockdevOptions">;
/** A child: a node's name or its description. */
export type BlockdevRef = TypeOf<"BlockdevRef">;
/** An object's description: the arguments of object-add. */
export type ObjectOptions = TypeOf<"ObjectOptions">;
/** One action of a transaction. */
export type TransactionAction = TypeOf<"TransactionAction">;

/** The schema as the validator and the introspection read it. */
export interface Schema {
  readonly types: TypeTable;
  readonly commands: CommandTable;
  readonly events: EventTable;
}

/** The schema; a program that evaluates modules late has no part of it before somebody asks. */
export const schema: Schema = {
  get types() {
    return typeTable;
  },
  get commands() {
    return commandTable;
  },
  get events() {
    return eventTable;
  },
};

/** Whether the schema has a command of this name. */
export function isCommandName(name: string): name is CommandName {
  return Object.hasOwn(commandTable, name);
}
