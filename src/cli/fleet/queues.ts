/**
 * Opening a queue by its URL. Its client is an optional package, which is loaded when it is needed.
 */
import type { Queue, Worker } from "bullmq";
import { FleetError } from "../../fleet/jobs.ts";
import type { FleetQueue, QueueOptions } from "../../fleet/queue.ts";
import { type Backend, BullQueue, type Held, type HeldJob } from "./bullmq.ts";
import { type PostgresPool, postgresPlaces } from "./postgres-places.ts";
import { redisPlaces } from "./redis-places.ts";

/** The queue's name, unless its URL says another: `redis://…?queue=NAME`. */
const NAME = "blockwright";
/** How often a server that does not answer is asked by whoever does not wait for it. */
const TRIES = 3;
const TRY_MS = 200;
const MOST_WAIT_MS = 2000;

/** Opens a queue: redis:, rediss:, unix: (a Redis socket), postgres:, postgresql:. Throws FleetError. */
export async function openQueue(text: string | undefined, options: QueueOptions): Promise<FleetQueue> {
  const given = text ?? process.env["REDIS_URL"];
  if (given === undefined) throw new FleetError("--queue (or REDIS_URL) must name the queue");
  if (!URL.canParse(given))
    throw new FleetError("--queue is no URL: redis://HOST or postgres://HOST/DATABASE");
  const url = new URL(given);
  const name = url.searchParams.get("queue") ?? NAME;
  if (!/^[\w-]{1,40}$/.test(name))
    throw new FleetError("the queue's name is not of 1 to 40 letters and digits");
  url.searchParams.delete("queue");
  if (/^(rediss?|unix|redis\+unix):$/.test(url.protocol))
    return new BullQueue(await redisBackend(url), name, options);
  if (/^postgres(ql)?:$/.test(url.protocol)) return new BullQueue(await postgresBackend(url), name, options);
  throw new FleetError(
    `there are no queues of '${url.protocol}': redis, rediss, unix and postgres are known`,
  );
}

/** Loads an optional package. Throws FleetError, which says how to get it. */
async function loadPackage<T>(load: () => Promise<T>, install: string): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ERR_MODULE_NOT_FOUND" && code !== "MODULE_NOT_FOUND") throw error;
    throw new FleetError(`this queue needs packages that are not installed: npm i ${install}`);
  }
}

/** How Redis is reached. A path without a host is a socket's, unless it is a number: that of a database. */
function redisOptions(url: URL): Record<string, unknown> {
  const { protocol, hostname: host, port, pathname } = url;
  const isSocket = !/^rediss?:$/.test(protocol) || (host === "" && !/^\/\d*$/.test(pathname));
  const db = isSocket ? url.searchParams.get("db") : pathname.slice(1);
  const said = (value: string): string | undefined => (value === "" ? undefined : decodeURIComponent(value));
  return {
    ...(isSocket
      ? { path: decodeURIComponent(pathname) }
      : { host: host.replace(/^\[|\]$/g, "") || "localhost", port: Number(port || 6379) }),
    username: said(url.username),
    password: said(url.password),
    ...(db ? { db: Number(db) } : {}),
    ...(protocol === "rediss:" ? { tls: {} } : {}),
  };
}

async function redisBackend(url: URL): Promise<Backend> {
  const bullmq = await loadPackage(() => import("bullmq"), "bullmq ioredis");
  const { Redis } = await loadPackage(() => import("ioredis"), "bullmq ioredis");
  const server = redisOptions(url);
  return {
    package: bullmq,
    queue: (name) => {
      const retryStrategy = (times: number): number | null => (times > TRIES ? null : TRY_MS * times);
      const connection = { ...server, maxRetriesPerRequest: TRIES, retryStrategy };
      return new bullmq.Queue<Held>(name, { connection });
    },
    worker: (name, run, options) => {
      const retryStrategy = (times: number): number => Math.min(TRY_MS * times, MOST_WAIT_MS);
      const connection = { ...server, maxRetriesPerRequest: null, retryStrategy };
      return new bullmq.Worker<Held>(name, run, { ...options, connection });
    },
    places: (name) => {
      const retryStrategy = (times: number): number => Math.min(TRY_MS * times, MOST_WAIT_MS);
      const connection = { ...server, maxRetriesPerRequest: TRIES, retryStrategy, lazyConnect: true };
      return redisPlaces(new Redis(connection), `bull:${name}:places`);
    },
  };
}

/** What is used of the package `pg`. */
interface PostgresDriver {
  readonly default: { readonly Pool: new (options: object) => PostgresPool };
}

async function postgresBackend(url: URL): Promise<Backend> {
  const bullmq = await loadPackage(() => import("bullmq"), "bullmq pg");
  // Its types are not needed: BullMQ asks for it by itself.
  const driver: string = "pg";
  const { default: pg } = await loadPackage(() => import(driver) as Promise<PostgresDriver>, "bullmq pg");
  const { Queue: PostgresQueue, Worker: PostgresWorker } = bullmq.withBackend(bullmq.createPostgresBackend);
  const connection = { connectionString: url.href, connectionTimeoutMillis: 5000, max: 4, migrate: true };
  return {
    package: bullmq,
    queue: (name) => new PostgresQueue(name, { connection }) as unknown as Queue<Held>,
    worker: (name, run, options) => {
      const process = (job: unknown, token?: string): Promise<unknown> => run(job as HeldJob, token);
      return new PostgresWorker(name, process, { ...options, connection }) as unknown as Worker<Held>;
    },
    places: (name) => {
      const { connectionString, connectionTimeoutMillis } = connection;
      return postgresPlaces(new pg.Pool({ connectionString, connectionTimeoutMillis, max: 2 }), name);
    },
  };
}
