/**
 * Serving an engine with its QMP monitor to whoever holds the other end of a port. Nothing here knows a browser: the port may
 * be one of Node's.
 */
import type { Engine } from "../../machine/engine.ts";
import { serveMonitor } from "../monitor.ts";
import { checkArgument } from "../options.ts";
import type { PortLike } from "./port.ts";
import { portConnection } from "./port-connection.ts";
import { imageHandlers } from "./serve-images.ts";
import { type Monitor, type ServeEngineOptions, checkServeOptions, serveCalls } from "./service.ts";

const monitor: Monitor = (port, { engine, signal, onFault }) =>
  serveMonitor(portConnection(port), engine, { signal, onFault });

/**
 * Serves `engine` to the client at the other end of `port` (see connectEngine()) until it goes or `signal` aborts. Then
 * its disks are closed, and the engine too unless `keepEngine`. Rejects only with the engine's failed flush at its end.
 */
export async function serveEngine(
  port: PortLike,
  engine: Engine,
  options: ServeEngineOptions = {},
): Promise<void> {
  checkServeOptions(options);
  checkArgument("port", port, "Port");
  checkArgument("engine", engine, "Engine");
  await serveCalls(port, engine, { ...options, monitor, more: imageHandlers });
}
