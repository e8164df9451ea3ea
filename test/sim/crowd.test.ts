// Several jobs at once, by seeds. CROWD_SEED: only that one, with its trace; CROWD_SEEDS: how many (default 45).
import { describe, expect, it } from "vitest";
import { jobKinds, runCrowd } from "./crowd.ts";

const wanted = process.env["CROWD_SEED"];
const count = Number(process.env["CROWD_SEEDS"] ?? 45);
const first = Number(process.env["CROWD_FIRST"] ?? 1);
const seeds =
  wanted === undefined ? Array.from({ length: count }, (_, index) => first + index) : [Number(wanted)];

describe("jobs in a crowd", () => {
  const endings = new Map<string, number>();

  it.each(seeds)("seed %i", async (seed) => {
    const { violations, trace, endings: own } = await runCrowd(seed);
    for (const [what, times] of own) endings.set(what, (endings.get(what) ?? 0) + times);
    if (violations.length === 0) return;
    const lines = wanted === undefined ? trace.slice(-80) : trace;
    const replay = `replay: CROWD_SEED=${seed} npx vitest run --project sim test/sim/crowd.test.ts`;
    expect.fail([...violations.slice(0, 8), replay, ...lines].join("\n"));
  });

  it.runIf(wanted === undefined && count >= 45)("jobs of every kind end in every way", () => {
    const times = (kind: string, how: string): number => endings.get(`${kind} ${how}`) ?? 0;
    for (const kind of jobKinds) {
      expect(times(kind, "completed"), `${kind} completed`).toBeGreaterThan(0);
      expect(times(kind, "refused"), `${kind} refused`).toBeGreaterThan(0);
    }
    // A stream is over before somebody cancels it.
    for (const kind of ["mirror", "backup", "drive-mirror"])
      expect(times(kind, "cancelled"), `${kind} cancelled`).toBeGreaterThan(0);
  });
});
