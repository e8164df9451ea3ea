/**
 * Which function serves which command. Handlers get checked, typed arguments; what they throw becomes the error reply.
 */
import { CommandError } from "../../base/errors.ts";
import {
  introspect,
  isCommandName,
  schema,
  validateArguments,
  type ArgsOf,
  type CommandName,
  type Json,
  type ReturnOf,
  type Schema,
  type TypeOf,
} from "../../wire/qapi/index.ts";

/** What a handler works with. `E` is the daemon's or library's engine. */
export interface CommandContext<E> {
  readonly engine: E;
  /** Calls `callback` once the reply of this command is on its way; for `quit`. */
  afterReply(callback: () => void): void;
}

/** What a handler may return: a command without an answer may return nothing, or `{}`. */
type Answer<N extends CommandName> =
  ReturnOf<N> extends infer R ? (R extends void ? void | Record<string, never> : R) : never;

/** A command's handler. */
export type CommandHandler<N extends CommandName, E> = (
  args: ArgsOf<N>,
  context: CommandContext<E>,
) => Answer<N> | Promise<Answer<N>>;

/** Handlers by command name; a command without one does not exist for clients. */
export type CommandHandlers<E> = { readonly [N in CommandName]?: CommandHandler<N, E> };

/** The commands that a monitor serves. */
export class CommandRegistry<E> {
  readonly #handlers: CommandHandlers<E>;
  /** Answered to query-version and sent in the greeting. */
  readonly version: TypeOf<"VersionInfo">;

  /** The table that an engine's arguments are read by; it may have drivers beside those of the fixed one. */
  readonly #tableOf: (engine: E) => Schema;

  constructor(
    handlers: CommandHandlers<E>,
    version: TypeOf<"VersionInfo">,
    tableOf: (engine: E) => Schema = () => schema,
  ) {
    this.version = version;
    this.#tableOf = tableOf;
    this.#handlers = { ...this.#ownHandlers(), ...handlers };
  }

  /** The names of the commands that are served, in the schema's order. */
  names(): CommandName[] {
    return Object.keys(schema.commands)
      .filter(isCommandName)
      .filter((name) => name === "qmp_capabilities" || this.#handlers[name] !== undefined);
  }

  /** Checks the arguments and runs a command. Throws CommandError, QapiError, or what the handler throws. */
  async run(name: string, args: Json, context: CommandContext<E>): Promise<unknown> {
    const handler = isCommandName(name) ? this.#handlers[name] : undefined;
    if (!isCommandName(name) || handler === undefined) {
      throw new CommandError(`The command ${name} has not been found`, { qmpClass: "CommandNotFound" });
    }
    // The arguments are of this command, by the line above; the types can't follow a name that is a variable.
    const run = handler as (args: unknown, context: CommandContext<E>) => unknown;
    return await run(validateArguments(name, args, this.#tableOf(context.engine)), context);
  }

  /** The commands that tell about the monitor itself. */
  #ownHandlers(): CommandHandlers<E> {
    return {
      "query-version": () => this.version,
      "query-commands": () => this.names().map((name) => ({ name })),
      "query-qmp-schema": (_args, { engine }) => {
        const served = new Set<string>(this.names());
        const unserved = Object.keys(schema.commands).filter((name) => !served.has(name));
        return introspect(new Set(unserved), this.#tableOf(engine));
      },
    };
  }
}
