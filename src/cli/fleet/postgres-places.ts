/**
 * Places that PostgreSQL counts: a row for each that is held, in a table beside the queue's own. Who takes holds a lock of the queue's
 * meanwhile; the clock is the server's.
 */
import type { Place, PlaceCounter } from "./shared-places.ts";

/** What is used of a client of PostgreSQL. */
export interface PostgresClient {
  query(text: string, values?: readonly unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
}

/** What is used of its pool. */
export interface PostgresPool extends PostgresClient {
  connect(): Promise<PostgresClient & { release(error?: Error): void }>;
  end(): Promise<void>;
}

const TABLE = "bullmq.blockwright_places";
const MAKE = `CREATE TABLE IF NOT EXISTS ${TABLE}
  (queue text, place text, holder text, ends timestamptz NOT NULL, PRIMARY KEY (queue, place, holder))`;
/** $1: the queue, $2: places, $3: the holder, $4: milliseconds. */
const HOLD = `INSERT INTO ${TABLE} SELECT $1, unnest($2::text[]), $3, clock_timestamp() + $4 * interval '1 ms'
  ON CONFLICT (queue, place, holder) DO UPDATE SET ends = EXCLUDED.ends`;
const FORGET = `DELETE FROM ${TABLE} WHERE queue = $1 AND ends <= clock_timestamp()`;
const COUNT = `SELECT place, count(*)::int AS held FROM ${TABLE} WHERE queue = $1 AND place = ANY($2) GROUP BY place`;
const GIVE = `DELETE FROM ${TABLE} WHERE queue = $1 AND place = ANY($2) AND holder = $3`;

/** Counts for the queue of that name. */
export function postgresPlaces(pool: PostgresPool, queue: string): PlaceCounter {
  let made: Promise<unknown> | undefined;
  const table = async (): Promise<void> => {
    made ??= pool.query(MAKE);
    try {
      await made;
    } catch (error) {
      made = undefined;
      throw error;
    }
  };
  const takeIn = async (client: PostgresClient, places: readonly Place[]): Promise<boolean> => {
    await client.query("SELECT pg_advisory_xact_lock(hashtext($1))", [`${TABLE} ${queue}`]);
    await client.query(FORGET, [queue]);
    const { rows } = await client.query(COUNT, [queue, places.map(({ name }) => name)]);
    const held = new Map(rows.map(({ place, held: count }) => [place, Number(count)]));
    return places.every(({ name, most }) => (held.get(name) ?? 0) < most);
  };
  return {
    take: async (holder, places, leaseMs) => {
      await table();
      return inTransaction(pool, async (client) => {
        const isFree = await takeIn(client, places);
        const names = places.map(({ name }) => name);
        if (isFree) await client.query(HOLD, [queue, names, holder, leaseMs]);
        return isFree;
      });
    },
    keep: async (holder, names, leaseMs) => void (await pool.query(HOLD, [queue, names, holder, leaseMs])),
    give: async (holder, names) => void (await pool.query(GIVE, [queue, names, holder])),
    close: () => pool.end(),
  };
}

async function inTransaction<T>(
  pool: PostgresPool,
  body: (client: PostgresClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await body(client);
    await client.query("COMMIT");
    client.release();
    return result;
  } catch (error) {
    // A connection in the middle of something is no use to anybody.
    client.release(error instanceof Error ? error : new Error("the transaction failed"));
    throw error;
  }
}
