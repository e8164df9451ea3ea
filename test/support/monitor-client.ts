// A client of a monitor that is about to listen: a socket is there a moment before it takes connections.
import { setTimeout } from "node:timers/promises";
import { errnoOf } from "../../src/base/errors.ts";
import { nodeSockets } from "../../src/platform/node/sockets.ts";
import { QmpClient } from "../../src/server/monitor/index.ts";
import { HANG_MS } from "./until.ts";

/** Connects as soon as somebody listens at the socket. */
export async function monitorClient(path: string): Promise<QmpClient> {
  for (const end = Date.now() + HANG_MS; ;) {
    try {
      return await QmpClient.connect(await nodeSockets.connect({ type: "unix", path }));
    } catch (error) {
      if (Date.now() > end || !["ENOENT", "ECONNREFUSED"].includes(errnoOf(error))) throw error;
    }
    await setTimeout(20);
  }
}
