/**
 * The Host of Node: its clock, randomness, files, sockets, HTTP and codecs behind src/base/host.ts.
 *
 * Its diagnostics are what a Node process and its tools are told: warnings, as the process's own, and the channels of diagnostics_channel, which a
 * program subscribes to by name. With NODE_DEBUG=blockwright everything that is published is written to standard error.
 */
import type { Host, HostDiagnostics } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import { nodeClock } from "./clock.ts";
import { nodeCodecs } from "./codecs.ts";
import { nodeCrypto } from "./crypto.ts";
import { NodeFiles } from "./files.ts";
import { nodeHttp } from "./http.ts";
import { nodeHttpServer } from "./http-server.ts";
import { loadNativeCalls } from "./native.ts";
import { nodeSockets } from "./sockets.ts";
import diagnosticsChannel from "node:diagnostics_channel";
import { debuglog, inspect } from "node:util";

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

/** How the Host is made. */
export interface NodeHostOptions {
  /** `auto` (default) uses the optional package koffi if it loads; `off` never loads it. */
  native?: "auto" | "off";
  /**
   * Where buffered files are read and written: `pool` (default) on Node's thread pool, so that the process can do other
   * things meanwhile; `in-turn` at once, which costs less processor time, for programs that do nothing but copy or compare.
   */
  io?: "pool" | "in-turn";
  /** A second thread helps to copy disks of so many bytes; default: 128 MiB with `in-turn`, else none. */
  copyLeastBytes?: number;
}

/** A smaller disk is copied before a thread has begun. */
const COPY_LEAST_BYTES = 128 * MiB;

/** A Host that has sockets, HTTP and cryptography. */
export type NodeHost = Host & Required<Pick<Host, "sockets" | "http" | "crypto">>;

/** A Host for this process; cheap, holds nothing open. */
export function nodeHost(options: NodeHostOptions = {}): NodeHost {
  const native = options.native === "off" ? () => undefined : loadNativeCalls;
  const inTurn = options.io === "in-turn";
  const copyLeastBytes = options.copyLeastBytes ?? (inTurn ? COPY_LEAST_BYTES : Infinity);
  return {
    clock: nodeClock,
    random: { below: (limit) => Math.floor(Math.random() * limit) },
    files: new NodeFiles({ native, inTurn, copyLeastBytes }),
    sockets: nodeSockets,
    codecs: nodeCodecs[options.native ?? "auto"],
    http: nodeHttp,
    httpServer: nodeHttpServer,
    environment: (name) => process.env[name],
    diagnostics: nodeDiagnostics,
    crypto: () => Promise.resolve(nodeCrypto),
  };
}
