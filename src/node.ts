/**
 * The Node entry: the portable library with the Node platform, the file driver and one engine that everybody shares who
 * brings none of their own.
 */
import { createEngine } from "./node-engine.ts";
import { libraryOver, sharedEngine } from "./api/library.ts";
import type { HostConnection } from "./base/host.ts";
import { QmpClient as PortableQmpClient, type QmpConnectOptions } from "./server/monitor/index.ts";
import { nodeSockets } from "./platform/node/sockets.ts";

export * from "./index.ts";
export { type NodeEngineOptions, createEngine, nodeDrivers } from "./node-engine.ts";
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

/** The engine of those who bring none; made when it is first asked for. It lets images open no other files. */
export const defaultEngine = sharedEngine(() => createEngine());

/** The functions on images, in the engine of `options.engine` or the default one. */
export const {
  openNode,
  createImage,
  removeImage,
  probe,
  check,
  importImage,
  listImages,
  fromBlob,
  resumeJob,
} = libraryOver(defaultEngine);
