// A client of a monitor that is about to listen: a socket is there a moment before it takes connections.
import { setTimeout } from "node:timers/promises";
import { errnoOf } from "../../src/base/errors.ts";
import { nodeSockets } from "../../src/platform/node/sockets.ts";
import { QmpClient } from "../../src/server/monitor/index.ts";

const TRIES = 1500;

/** Connects as soon as somebody listens at the socket. */
export async function monitorClient(path: string): Promise<QmpClient> {
  for (let tries = 0; ; tries++) {
    try {
      return await QmpClient.connect(await nodeSockets.connect({ type: "unix", path }));
    } catch (error) {
      if (tries === TRIES || !["ENOENT", "ECONNREFUSED"].includes(errnoOf(error))) throw error;
    }
    await setTimeout(20);
  }
}
