/**
 * Places that Redis counts: a sorted set for each, of who holds it by the end of his lease. Scripts run there one at a time, by the
 * server's own clock.
 */
import type { Place, PlaceCounter } from "./shared-places.ts";

/** What is used of a client of Redis. */
export interface RedisScripts {
  eval(script: string, keys: number, ...words: (string | number)[]): Promise<unknown>;
  on(event: "error", listener: () => void): unknown;
  disconnect(): void;
}

const NOW = `local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;
/** Puts a holder (ARGV[1]) with a lease (ARGV[2]) into all sets, which go by themselves after the last lease. */
const HOLD = `for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  if redis.call('PTTL', key) < tonumber(ARGV[2]) then redis.call('PEXPIRE', key, ARGV[2]) end
end
`;
const TAKE = `${NOW}for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + i]) then return 0 end
end
${HOLD}return 1`;
const KEEP = `${NOW}${HOLD}return 1`;
const GIVE = `for _, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[1]) end
return 1`;

/** Counts in the sets whose names begin with `prefix`. */
export function redisPlaces(client: RedisScripts, prefix: string): PlaceCounter {
  // Each call tells its own failure.
  client.on("error", () => undefined);
  const run = (
    script: string,
    names: readonly string[],
    words: readonly (string | number)[],
  ): Promise<unknown> => {
    const keys = names.map((name) => `${prefix}:${name}`);
    return client.eval(script, keys.length, ...keys, ...words);
  };
  return {
    take: async (holder: string, places: readonly Place[], leaseMs: number) => {
      const names = places.map(({ name }) => name);
      return (await run(TAKE, names, [holder, leaseMs, ...places.map(({ most }) => most)])) === 1;
    },
    keep: async (holder, names, leaseMs) => void (await run(KEEP, names, [holder, leaseMs])),
    give: async (holder, names) => void (await run(GIVE, names, [holder])),
    close: () => {
      client.disconnect();
      return Promise.resolve();
    },
  };
}
