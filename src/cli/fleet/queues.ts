/**
 * Opening a queue by its URL. Its client is an optional package, which is loaded when it is needed.
 */
import { Socket } from "node:net";
import type { Queue, Worker } from "bullmq";
import { FleetError } from "../../fleet/jobs.ts";
import type { FleetQueue, QueueOptions } from "../../fleet/queue.ts";
import { type Backend, type Held, type HeldJob, loadPackage } from "./backend.ts";
import { BullQueue } from "./bullmq.ts";
import { type PostgresPool, postgresPlaces } from "./postgres-places.ts";
import { redisBackend } from "./redis-backend.ts";
import { goodbye } from "./silence.ts";

/** The queue's name, unless its URL says another: `redis://…?queue=NAME`. */
const NAME = "blockwright";
/** How long it may take to count a place. */
const PLACE_MS = 10_000;

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
    queue: (name) => {
      const sockets = new Set<Socket>();
      let before = 0;
      const stream = (): Socket => {
        const socket = new Socket();
        sockets.add(socket);
        return socket.once("close", () => {
          if (sockets.delete(socket)) before += socket.bytesRead;
        });
      };
      const heard = (): number => [...sockets].reduce((bytes, { bytesRead }) => bytes + bytesRead, before);
      const watched = { connection: { ...connection, stream } };
      const queue = new PostgresQueue(name, watched) as unknown as Queue<Held>;
      const close = async (): Promise<void> => {
        await goodbye(queue.close());
        for (const socket of sockets) socket.destroy();
      };
      return { queue, reach: () => Promise.resolve(), heard, close };
    },
    worker: (name, run, options) => {
      const process = (job: unknown, token?: string): Promise<unknown> => run(job as HeldJob, token);
      return new PostgresWorker(name, process, { ...options, connection }) as unknown as Worker<Held>;
    },
    places: (name) => {
      const { connectionString, connectionTimeoutMillis } = connection;
      const limits = { connectionTimeoutMillis, query_timeout: PLACE_MS, max: 2 };
      return postgresPlaces(new pg.Pool({ connectionString, ...limits }), name);
    },
  };
}
