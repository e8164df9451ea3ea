/**
 * From a request to the function that serves it. The request's outer form is checked in QEMU's words (`exec-oob` is a member once
 * a client has enabled it). Handlers get checked, typed arguments; what they throw becomes the error reply.
 */
import { CommandError } from "../../base/errors.ts";
import {
  introspect,
  readArguments,
  schema,
  type ArgsOf,
  type CommandName,
  type Json,
  type ReturnOf,
  type Schema,
  type TypeOf,
  isJsonObject,
  type JsonObject,
} from "../../wire/qapi/index.ts";
import type { RequestId } from "./output.ts";

/** What a handler works with. `E` is the daemon's or library's engine. */
export interface CommandContext<E> {
  readonly engine: E;
  /** Calls `callback` once the reply of this command is on its way; for `quit`. */
  afterReply(callback: () => void): void;
  /** Takes the descriptor that came with the command, or before it. Absent: none can come. */
  readonly takeDescriptor?: (() => number | undefined) | undefined;
}

/** What a handler may return: a command without an answer may return nothing, or `{}`. */
type Answer<N extends CommandName> =
  ReturnOf<N> extends infer R ? (R extends void ? void | Record<string, never> : R) : never;

/** A command's handler. `given`: the arguments as they came, with integers that no number holds exactly. */
export type CommandHandler<N extends CommandName, E> = (
  args: ArgsOf<N>,
  context: CommandContext<E>,
  given?: Json,
) => Answer<N> | Promise<Answer<N>>;

/** Handlers by command name; a command without one does not exist for clients. */
export type CommandHandlers<E> = { readonly [N in CommandName]?: CommandHandler<N, E> };

/** How the commands of a registry are described. */
export interface RegistryTables<E> {
  /** The commands and events that there are. Default: those of the storage daemon. */
  readonly base?: Schema;
  /** The table that an engine's arguments are read by; it may have drivers beside those of the fixed one. */
  readonly tableOf?: (engine: E) => Schema;
  /** What query-qmp-schema shows of that table. Default: all. */
  readonly shown?: (table: Schema) => Schema;
  /** Commands that QEMU has and this monitor does not, and why. */
  readonly refused?: Readonly<Record<string, string>>;
}

type AnyHandler<E> = (args: unknown, context: CommandContext<E>, given: Json) => unknown;

/** The commands that a monitor serves. */
export class CommandRegistry<E> {
  readonly #handlers: Readonly<Record<string, AnyHandler<E>>>;
  /** Answered to query-version and sent in the greeting. */
  readonly version: TypeOf<"VersionInfo">;
  readonly #base: Schema;
  readonly #tableOf: (engine: E) => Schema;
  readonly #shown: (table: Schema) => Schema;
  readonly #refused: Readonly<Record<string, string>>;

  /** The handlers are of commands of the base table: CommandHandlers, or those of a table that has more. */
  constructor(handlers: object, version: TypeOf<"VersionInfo">, tables: RegistryTables<E> = {}) {
    this.version = version;
    this.#base = tables.base ?? schema;
    this.#tableOf = tables.tableOf ?? (() => this.#base);
    this.#shown = tables.shown ?? ((table) => table);
    this.#refused = tables.refused ?? {};
    // A handler's arguments are of its command; the types can't follow a name that is a variable.
    this.#handlers = { ...this.#ownHandlers(), ...handlers } as Record<string, AnyHandler<E>>;
  }

  /** The names of the commands that are served, in the schema's order. */
  names(): string[] {
    return Object.keys(this.#base.commands).filter(
      (name) => name === "qmp_capabilities" || Object.hasOwn(this.#handlers, name),
    );
  }

  /** Checks the arguments and runs a command. Throws CommandError, QapiError, or what the handler throws. */
  async run(name: string, args: Json, context: CommandContext<E>): Promise<unknown> {
    const handler = this.#handler(name);
    return await handler(readArguments(name, args, this.#tableOf(context.engine)), context, args);
  }

  /** No command that is served may run beside the others. Throws CommandError. */
  runOutOfBand(name: string): never {
    if (name !== "qmp_capabilities") this.#handler(name);
    throw new CommandError(`The command ${name} does not support OOB`);
  }

  #handler(name: string): AnyHandler<E> {
    const handler = Object.hasOwn(this.#handlers, name) ? this.#handlers[name] : undefined;
    if (handler) return handler;
    const why = Object.hasOwn(this.#refused, name) ? `: ${this.#refused[name]}` : "";
    throw new CommandError(`The command ${name} has not been found${why}`, { qmpClass: "CommandNotFound" });
  }

  /** The commands that tell about the monitor itself. */
  #ownHandlers(): CommandHandlers<E> {
    return {
      "query-version": () => this.version,
      "query-commands": () => this.names().map((name) => ({ name })),
      "query-qmp-schema": (_args, { engine }) => {
        const served = new Set<string>(this.names());
        const unserved = Object.keys(this.#base.commands).filter((name) => !served.has(name));
        return introspect(new Set(unserved), this.#shown(this.#tableOf(engine)));
      },
    };
  }
}

/** A request in good form. */
export interface Request {
  readonly command: string;
  readonly args: JsonObject;
  /** It came as `exec-oob`. */
  readonly isOutOfBand: boolean;
}

/** The id of a request in whatever form. */
export function idOf(request: Json): RequestId {
  return isJsonObject(request) ? request["id"] : undefined;
}

/** Takes a request apart. `oob`: the client has enabled it. Throws CommandError. */
export function parseRequest(request: Json, { oob }: { oob: boolean }): Request {
  if (!isJsonObject(request)) throw new CommandError("QMP input must be a JSON object");
  let command: string | undefined;
  let isOutOfBand = false;
  let args: JsonObject = {};
  for (const [member, value] of Object.entries(request)) {
    if (member === "execute" || (oob && member === "exec-oob")) {
      if (typeof value !== "string") throw new CommandError(`QMP input member '${member}' must be a string`);
      if (command !== undefined) throw new CommandError("QMP input member 'execute' clashes with 'exec-oob'");
      command = value;
      isOutOfBand = member === "exec-oob";
    } else if (member === "arguments") {
      if (!isJsonObject(value)) throw new CommandError("QMP input member 'arguments' must be an object");
      args = value;
    } else if (member !== "id") {
      throw new CommandError(`QMP input member '${member}' is unexpected`);
    }
  }
  if (command === undefined) throw new CommandError("QMP input lacks member 'execute'");
  return { command, args, isOutOfBand };
}
