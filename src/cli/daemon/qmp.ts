/**
 * A client of QMP on a character device, as the daemon and the machine serve it: whoever types may err, and what is broken in here is
 * told on stderr and ends nothing.
 */
import type { Clock, HostConnection } from "../../base/host.ts";
import type { Engine } from "../../node.ts";
import { type CommandRegistry, serveMonitor } from "../../server/monitor/index.ts";
import { verbProgram } from "../program.ts";

/** Whom a client meets. */
export interface QmpServer {
  readonly verb: "daemon" | "machine";
  readonly registry: CommandRegistry<Engine>;
  readonly engine: Engine;
  /** See QmpSessionOptions. */
  readonly eventClock?: Pick<Clock, "timer">;
  /** Ends the sessions. */
  readonly signal: AbortSignal;
}

/** Serves one client until either side ends it. `indent`: spaces of a pretty answer, or 0. */
export function serveQmp(
  connection: HostConnection,
  { verb, registry, engine, signal, eventClock }: QmpServer,
  { indent, interactive }: { indent: number; interactive: boolean },
): Promise<void> {
  const { events, host } = engine.graph;
  return serveMonitor(connection, {
    registry,
    engine,
    events,
    clock: host.clock,
    eventClock,
    indent,
    onLexicalError: interactive ? "resume" : "close",
    onFault: (error) => tellFault(verb, error),
    signal,
  });
}

/** Tells of what is broken in here, with the place. */
export function tellFault(verb: QmpServer["verb"], error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`${verbProgram(verb)}: internal error: ${text}\n`);
}
