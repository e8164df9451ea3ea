/**
 * `--dashboard`: a page with the jobs of a fleet, and its OpenMetrics, for whoever has the token.
 */
import { existsSync, readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { messageOf } from "../../base/errors.ts";
import { FleetBoard } from "../../fleet/board.ts";
import { FleetError } from "../../fleet/jobs.ts";
import type { FleetQueue } from "../../fleet/queue.ts";
import { nodeHttpServer } from "../../platform/node/http-server.ts";
import { bracketed, makeToken } from "../../server/web/access.ts";
import { OPEN_METRICS_TYPE } from "../../server/web/open-metrics.ts";
import { startWebServer, type WebFile } from "../../server/web/server.ts";
import type { FleetFlags } from "../verbs/fleet/flags.ts";
import { fleetMetrics } from "./metrics.ts";
import { reasonOf } from "../reason.ts";

const MAX_PORT = 65_535;
const LOCAL = /^(?:127(?:\.\d+){3}|::1|localhost)$/;

const files = {
  "fleet.html": "text/html; charset=utf-8",
  "fleet.js": "text/javascript; charset=utf-8",
  "page.css": "text/css; charset=utf-8",
} as const;

/** Reads `[HOST:]PORT`. Throws FleetError. */
function addressOf(text: string): { host: string; port: number } {
  const [, host = "127.0.0.1", port] = /^(?:(.+):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) > MAX_PORT)
    throw new FleetError(`--dashboard: '${text}' is no address to listen on: [HOST:]PORT`);
  return { host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port) };
}

/** The token in a file, or a new one. Throws FleetError. */
function tokenOf(file: string | undefined): string {
  if (file === undefined) return makeToken((bytes) => randomBytes(bytes));
  let token: string;
  try {
    token = readFileSync(file, "utf8").replace(/\n$/, "");
  } catch (error) {
    throw new FleetError(`--token-file: '${file}': ${reasonOf(error)}`);
  }
  if (!/^[\w.~-]{16,}$/.test(token))
    throw new FleetError(`--token-file: '${file}' holds no token: 16 or more of A-Z a-z 0-9 . _ ~ -`);
  return token;
}

/** What an option without a value means. */
const DEFAULT_ADDRESS = "127.0.0.1:0";

/** The page, which is a part of the package. */
function pageFiles(): Map<string, WebFile> {
  const folder = fileURLToPath(new URL("../dashboard/", import.meta.url));
  if (!existsSync(`${folder}fleet.html`)) throw new FleetError(`the page is not in '${folder}'`);
  return new Map(
    Object.entries(files).map(([name, type]): [string, WebFile] => [
      name === "fleet.html" ? "/" : `/${name}`,
      { type, bytes: readFileSync(`${folder}${name}`), isOpen: name !== "fleet.html" },
    ]),
  );
}

/**
 * Shows how a queue stands until what it answers is called, if that is asked for; tells where. Throws FleetError, BlockError (EADDRINUSE …).
 */
export async function showDashboard(
  queue: FleetQueue,
  { dashboard, tokenFile }: FleetFlags,
  note: (text: string) => void,
): Promise<() => Promise<void>> {
  if (dashboard === undefined) return () => Promise.resolve();
  const address = addressOf(dashboard === true ? DEFAULT_ADDRESS : dashboard);
  const token = tokenOf(tokenFile);
  const board = new FleetBoard(queue, Date.now);
  const utf8 = new TextEncoder();
  const told =
    (ask: () => Promise<string>): (() => Promise<Uint8Array>) =>
    async () => {
      const text = await ask().catch((error: unknown) => {
        throw new FleetError(`the queue does not answer: ${messageOf(error)}`);
      });
      return utf8.encode(text);
    };
  const sight = told(async () => JSON.stringify(await board.sight()));
  const metrics = told(async () => {
    const { counts, rows } = await board.all();
    return fleetMetrics(counts, rows);
  });
  const isLocal = LOCAL.test(address.host);
  const server = await startWebServer({
    ...{ host: { httpServer: nodeHttpServer }, address, token, anyName: !isLocal, files: pageFiles() },
    live: new Map([
      ["/fleet.json", { type: "application/json", bytes: sight }],
      ["/metrics", { type: OPEN_METRICS_TYPE, bytes: metrics }],
    ]),
  });
  if (!isLocal) note("the dashboard speaks no TLS: who can read along has its token");
  note(`dashboard: http://${bracketed(address.host)}:${server.port}/?token=${token}`);
  return () => server.close();
}
