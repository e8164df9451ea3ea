/**
 * The Node entry: the portable library with the Node platform, the file driver and one engine that everybody shares who
 * brings none of their own.
 */
import { type EngineOptions, makeEngine } from "./api/engine.ts";
import { libraryOver, sharedEngine } from "./api/library.ts";
import { unflushedFiles } from "./api/node.ts";
import type { DriverType } from "./block/model/contract.ts";
import { portableDrivers } from "./drivers/index.ts";
import { file, hostCdrom, hostDevice } from "./drivers/protocol/file.ts";
import { nbd } from "./drivers/protocol/nbd/index.ts";
import type { Engine } from "./machine/engine.ts";
import { warnAtExit } from "./platform/node/leftovers.ts";
import type { HostConnection } from "./base/host.ts";
import { QmpClient as PortableQmpClient, type QmpConnectOptions } from "./server/monitor/index.ts";
import { nodeSockets } from "./platform/node/sockets.ts";
import { sameBytes } from "./platform/node/compare.ts";
import { type NodeHostOptions, nodeHost } from "./platform/node/host.ts";

export * from "./index.ts";
export { type NodeHost, type NodeHostOptions, nodeHost } from "./platform/node/host.ts";
export { stdioConnection } from "./platform/node/stdio.ts";
export { type HttpService, type ServeHttpOptions, serveHttp } from "./api/serve-http.ts";
export { type NbdService, type ServeNbdOptions, serveNbd } from "./api/serve-nbd.ts";

/** The QMP client, which in Node also takes an address: `QmpClient.connect("unix:qmp.sock")`. */
export class QmpClient extends PortableQmpClient {
  static override connect(
    target: HostConnection | string,
    options: QmpConnectOptions = {},
  ): Promise<QmpClient> {
    return super.connect(target, { sockets: nodeSockets, ...options });
  }
}

/** How an engine over Node's files is made. */
export interface NodeEngineOptions extends EngineOptions, NodeHostOptions {
  /** Drivers beside Blockwright's own. */
  drivers?: readonly DriverType[];
  /** False: says nothing on stderr where the process ends while disks are open that were written to and not flushed. */
  warnUnflushed?: boolean;
}

/** What an engine in Node can open: the drivers of a platform (`blockwright/workload`). */
export const nodeDrivers: readonly DriverType[] = [...portableDrivers, file, hostDevice, hostCdrom, nbd];

/** An engine over this process's files and sockets. Close it with `await using` or close(). */
export function createEngine(options: NodeEngineOptions = {}): Engine {
  const drivers = [...nodeDrivers, ...(options.drivers ?? [])];
  const engine = makeEngine({ host: nodeHost(options), drivers, equals: sameBytes }, options);
  if (options.warnUnflushed ?? true) warnAtExit(engine, unflushedFiles);
  return engine;
}

/** The engine of those who bring none; made when it is first asked for. It lets images open no other files. */
export const defaultEngine = sharedEngine(() => createEngine());

/** The functions on images, in the engine of `options.engine` or the default one. */
export const { openNode, createImage, removeImage, probe, check, fromBlob } = libraryOver(defaultEngine);
