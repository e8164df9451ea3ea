/**
 * Serving QMP over a connection of the caller's: the monitor with all commands of an engine.
 */
import type { HostConnection } from "../base/host.ts";
import type { Engine } from "../machine/engine.ts";
import { engineCommands } from "../server/monitor/commands/index.ts";
import { serveMonitor as serve } from "../server/monitor/index.ts";
import type { CompatLevel, TypeOf } from "../wire/qapi/index.ts";
import { callOptions, checkArgument, optionsOf } from "./options.ts";

/** Options of serveMonitor(). */
export interface MonitorOptions {
  /** Closes the connection. */
  signal?: AbortSignal;
  /** A client sent `quit`; its reply is on its way. Default: nothing happens. */
  onQuit?: () => void;
  /** Told of faults of the program (broken invariants in command handlers). */
  onFault?: (error: unknown) => void;
  /** Spaces of indentation a level; default 0: one line a message. */
  indent?: number;
  /** What query-version and the greeting say; default: QEMU 7.2. */
  version?: TypeOf<"VersionInfo">;
  /** Whose commands are taken: QEMU 7.2's (default), `10.1`: with those that newer QEMU has, or `blockwright`: also with what is our own. */
  compat?: CompatLevel;
}

const checkOptions = optionsOf<MonitorOptions>({
  ...callOptions,
  onQuit: "Function",
  onFault: "Function",
  indent: "int",
  version: "VersionInfo",
  compat: "CompatLevel",
});

const behavesAs: TypeOf<"VersionInfo"> = { qemu: { major: 7, minor: 2, micro: 0 }, package: "blockwright" };

/** Serves one client until it goes, or `signal` aborts. Rejects with a CommandError for options that are none, and never else. */
export async function serveMonitor(
  connection: HostConnection,
  engine: Engine,
  options: MonitorOptions = {},
): Promise<void> {
  checkOptions(options);
  checkArgument("connection", connection, "Connection");
  checkArgument("engine", engine, "Engine");
  const { compat, version = behavesAs, onQuit = () => undefined, onFault, signal, indent } = options;
  await serve<Engine>(connection, {
    registry: engineCommands({ version, onQuit, compat }),
    engine,
    events: engine.graph.events,
    clock: engine.graph.host.clock,
    ...(onFault ? { onFault } : {}),
    ...(signal ? { signal } : {}),
    ...(indent === undefined ? {} : { indent }),
  });
}
