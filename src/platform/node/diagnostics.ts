/**
 * What a Node process and its tools are told: warnings, as the process's own, and the channels of diagnostics_channel, which a
 * program subscribes to by name. With NODE_DEBUG=blockwright everything that is published is written to standard error.
 */
import diagnosticsChannel from "node:diagnostics_channel";
import { debuglog, inspect } from "node:util";
import type { HostDiagnostics } from "../../base/host.ts";

const log = debuglog("blockwright");
const logged = new Set<string>();

/** Writes what is published on a channel, if NODE_DEBUG asks for it. */
function follow(name: string): void {
  if (!log.enabled || logged.has(name)) return;
  logged.add(name);
  diagnosticsChannel.subscribe(name, (message) => {
    log("%s %s", name, inspect(message, { breakLength: Infinity, depth: 3, compact: true }));
  });
}

/** This process's. */
export const nodeDiagnostics: HostDiagnostics = {
  warn: (message, code) => process.emitWarning(message, { type: "BlockwrightWarning", code }),
  channel: (name) => {
    follow(name);
    return diagnosticsChannel.channel(name);
  },
};
