// A seeded story of guest requests, the same for the process that writes it and the one that judges what is left.

export const SECTOR = 512;
/** 24 MiB. */
export const DISK_SECTORS = 49152;

/** One request. Its number (from 1, in the order of the story) is the value that a write fills its sectors with. */
export interface Operation {
  kind: "write" | "zero" | "discard";
  sector: number;
  count: number;
}

/** Requests issued at once, which never overlap; then perhaps a flush. */
export interface Volley {
  operations: Operation[];
  flush: boolean;
}

/** mulberry32: integers below `limit`. */
export function randomness(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  };
}

/** The story of a seed. */
export function* story(seed: number): Generator<Volley> {
  const random = randomness(seed);
  for (let index = 0; index < 400; index++) {
    const lanes = 1 + random(6);
    const lane = Math.floor(DISK_SECTORS / lanes / 128) * 128;
    const operations = Array.from({ length: lanes }, (_, number): Operation => {
      const kind = (["write", "write", "write", "zero", "discard"] as const)[random(5)]!;
      const unit = kind === "discard" ? 128 : 1;
      const count = (1 + random(kind === "discard" ? 10 : random(3) ? 40 : 2000)) * unit;
      return { kind, sector: number * lane + Math.floor(random(lane - count) / unit) * unit, count };
    });
    yield { operations, flush: random(4) === 0 };
  }
}
