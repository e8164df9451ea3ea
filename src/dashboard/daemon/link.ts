/**
 * The page's way to its daemon: QMP over one WebSocket, which is made anew when it breaks. Events and answers come by it, nothing else.
 */
import { opened } from "../../platform/web-socket.ts";
import { QmpClient } from "../../server/monitor/client.ts";
import type { DashboardReturnOf } from "../../wire/qapi/dashboard.ts";

/** Pause between attempts, ms. */
const PAUSE_MS = 2000;

/** What the page is told. */
export interface LinkEvents {
  onUp: (client: QmpClient) => void;
  onDown: () => void;
}

/** What commands of a dashboard's monitor answer. */
export type Answer<N extends Parameters<typeof ask>[1]> = DashboardReturnOf<N>;

/** Runs a command that only a dashboard's monitor has. */
export async function ask<
  N extends "x-blockwright-query-jobs" | "x-blockwright-query-exports" | "x-blockwright-query-map",
>(client: QmpClient, name: N, args?: object): Promise<DashboardReturnOf<N>> {
  return (await client.executeRaw(name, args)) as DashboardReturnOf<N>;
}

/** Connects, and again whenever the connection has ended. Never resolves. */
export async function keepLink({ onUp, onDown }: LinkEvents): Promise<never> {
  const url = new URL("qmp", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({
    token: new URLSearchParams(location.search).get("token") ?? "",
  }).toString();
  for (;;) {
    try {
      const client = await QmpClient.connect(await opened(new WebSocket(url)));
      const events = client.events();
      onUp(client);
      // Ends with the connection.
      for await (const _event of events) continue;
    } catch {
      // Told below; the next attempt shows whether it was more than a pause.
    }
    onDown();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
