/**
 * Opening a queue by its URL. Its client is an optional package, which is loaded when it is needed.
 */
import type { Queue, Worker } from "bullmq";
import { FleetError } from "../../fleet/jobs.ts";
import type { FleetQueue, QueueOptions } from "../../fleet/queue.ts";
import { type Backend, type Held, type HeldJob, loadPackage } from "./backend.ts";
import { BullQueue } from "./bullmq.ts";
import { type PostgresPool, postgresPlaces } from "./postgres-places.ts";
import { redisBackend } from "./redis-backend.ts";

/** The queue's name, unless its URL says another: `redis://…?queue=NAME`. */
const NAME = "blockwright";

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
      const queue = new PostgresQueue(name, { connection }) as unknown as Queue<Held>;
      return { queue, close: () => queue.close() };
    },
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
