/** All commands that a monitor over an engine serves. */
import type { Engine } from "../../../machine/engine.ts";
import {
  schema,
  type Schema,
  schemaAt,
  schemaShownAt,
  schemaWith,
  type CompatLevel,
  type TypeOf,
} from "../../../wire/qapi/index.ts";
import { type CommandHandlers, CommandRegistry } from "../registry.ts";
import { bitmapCommands } from "./bitmaps.ts";
import { controlCommands } from "./control.ts";
import { jobCommands, newerJobCommands } from "./jobs.ts";
import { nodeCommands } from "./nodes.ts";
import { queryCommands } from "./query.ts";
import { transactionCommands } from "./transaction.ts";

/** What the commands need beside the engine. */
export interface EngineCommandsOptions {
  version: TypeOf<"VersionInfo">;
  /** Handlers of commands that servers beside the monitor carry out. */
  more?: object;
  /** The schema that has their commands, too. Default: an engine's. */
  base?: Schema;
  /** Whose commands and arguments are taken. Default: QEMU 7.2's. */
  compat?: CompatLevel | undefined;
  /** A client sent quit: what is to happen, with all its events, before the reply. Default: nothing. */
  beforeQuit?: () => Promise<void>;
  /** The reply to quit is on its way. */
  onQuit: () => void;
}

/** The handlers of an engine's monitors. */
export function engineHandlers(options: EngineCommandsOptions): CommandHandlers<Engine> {
  return {
    ...nodeCommands,
    ...queryCommands,
    ...jobCommands,
    ...bitmapCommands,
    ...transactionCommands,
    ...controlCommands(options),
    ...(options.compat === undefined || options.compat === "7.2" ? {} : newerJobCommands),
  };
}

/** The registry of an engine's monitors. */
export function engineCommands(options: EngineCommandsOptions): CommandRegistry<Engine> {
  const level = options.compat ?? "7.2";
  const base = schemaAt(level, options.base ?? schema);
  return new CommandRegistry<Engine>({ ...engineHandlers(options), ...options.more }, options.version, {
    base,
    tableOf: ({ graph }) => schemaWith(graph.drivers, base),
    shown: (table) => schemaShownAt(level, table),
  });
}
