/**
 * BullMQ over Redis.
 *
 * Invariants: who comes while the server is away is told so after a few tries; who was connected once connects again whenever the server
 * is back, and what he asks meanwhile fails soon.
 */
import { FleetError } from "../../fleet/jobs.ts";
import { type Backend, type Held, loadPackage, type OpenedQueue } from "./backend.ts";
import { redisPlaces } from "./redis-places.ts";
import { goodbye } from "./silence.ts";

/** How often a server that does not answer is asked by whoever does not wait for it. */
const TRIES = 3;
const TRY_MS = 200;
const MOST_WAIT_MS = 2000;
/** How long a server may take for an answer to whoever does not wait for it: many jobs at once are a long one. */
const ANSWER_MS = 30_000;
/** After so long without a byte where one is due, a connection is made anew. Longer than any wait for a job. */
const SILENT_MS = 30_000;
/** How long it may take to count a place. */
const PLACE_MS = 10_000;

const patient = (times: number): number => Math.min(TRY_MS * times, MOST_WAIT_MS);

/** The number of a database; undefined: its first. Throws FleetError. */
function databaseOf(text: string | null): number | undefined {
  if (!text) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new FleetError(`--queue: '${text}' is no number of a database`);
  return Number(text);
}

/** How Redis is reached. A path without a host is a socket's, unless it is a number: that of a database. Throws FleetError. */
function redisOptions(url: URL): Record<string, unknown> {
  const { protocol, hostname: host, port, pathname } = url;
  const isSocket = !/^rediss?:$/.test(protocol) || (host === "" && !/^\/\d*$/.test(pathname));
  for (const name of url.searchParams.keys())
    if (name !== "db" || !isSocket)
      throw new FleetError(`--queue: there is no option '${name}' (there is queue)`);
  const db = databaseOf(isSocket ? url.searchParams.get("db") : pathname.slice(1));
  const said = (value: string): string | undefined => (value === "" ? undefined : decodeURIComponent(value));
  return {
    ...(isSocket
      ? { path: decodeURIComponent(pathname) }
      : { host: host.replace(/^\[|\]$/g, "") || "localhost", port: Number(port || 6379) }),
    username: said(url.username),
    password: said(url.password),
    ...(db === undefined ? {} : { db }),
    ...(protocol === "rediss:" ? { tls: {} } : {}),
  };
}

/** Opens the package. Throws FleetError where it is not installed. */
export async function redisBackend(url: URL): Promise<Backend> {
  const bullmq = await loadPackage(() => import("bullmq"), "bullmq ioredis");
  const { Redis } = await loadPackage(() => import("ioredis"), "bullmq ioredis");
  const server = redisOptions(url);
  const queue = (name: string): OpenedQueue => {
    let wasThere = false;
    const retryStrategy = (times: number): number | null =>
      wasThere || times <= TRIES ? patient(times) : null;
    const client = new Redis({
      ...server,
      maxRetriesPerRequest: TRIES,
      retryStrategy,
      commandTimeout: ANSWER_MS,
      socketTimeout: SILENT_MS,
    });
    let refused: FleetError | undefined;
    // Each call tells its own failure. Without its database the first one would be taken for it.
    const failed = (error: Error & { command?: { name?: string } }): void => {
      if (error.command?.name !== "select") return;
      refused = new FleetError(`--queue: the server has no such database: ${error.message}`);
      client.disconnect();
    };
    client.on("error", failed).once("ready", () => (wasThere = true));
    const opened = new bullmq.Queue<Held>(name, { connection: client });
    return {
      queue: opened,
      reach: async () => {
        try {
          await opened.waitUntilReady();
          await client.ping();
        } catch (error) {
          throw refused ?? error;
        }
      },
      heard: () => client.stream?.bytesRead ?? 0,
      close: async () => {
        await goodbye(opened.close());
        client.disconnect();
      },
    };
  };
  return {
    package: bullmq,
    queue,
    worker: (name, run, options) => {
      const how = { maxRetriesPerRequest: null, retryStrategy: patient, socketTimeout: SILENT_MS };
      const connection = { ...server, ...how };
      return new bullmq.Worker<Held>(name, run, { ...options, connection });
    },
    places: (name) => {
      const connection = {
        ...server,
        maxRetriesPerRequest: TRIES,
        retryStrategy: patient,
        lazyConnect: true,
        commandTimeout: PLACE_MS,
        socketTimeout: SILENT_MS,
      };
      return redisPlaces(new Redis(connection), `bull:${name}:places`);
    },
  };
}
