// What `npm test` chooses to run: by seed, within a budget, every suite, nothing twice; and what the clock takes away.
import { describe, expect, it } from "vitest";
import { Pace, nextBatch } from "../../../.ci/test/clock.ts";
import { piecesOf } from "../../../.ci/test/pieces.ts";
import { type Batch, LANES, type Piece, nameOf, plan, secondsOf } from "../../../.ci/test/plan.ts";
import type { Phase } from "../../../.ci/test/stages.ts";

const names = ["unit", "interop", "crash"];

/** 40 files a suite: short ones in unit, one of two minutes among those of crash. */
function pieces(): Piece[] {
  return names.flatMap((suite, at) =>
    Array.from({ length: 40 }, (_, index) => ({
      suite,
      file: `test/${suite}/${index}.test.ts`,
      seconds: suite === "crash" && index === 0 ? 120 : 1 + at * 10 + (index % 7),
    })),
  );
}

const quick: Phase = { name: "quick", minutes: 3, suites: names };

function chosen(seed: number, phases: readonly Phase[] = [quick]): Piece[] {
  const { planned } = plan(pieces(), { seed, phases });
  return planned.flatMap(({ batches }) => batches.flatMap((batch) => batch.pieces));
}

describe("a plan", () => {
  it("is the seed's", () => {
    expect(chosen(7)).toEqual(chosen(7));
    expect(new Set(chosen(7).map(nameOf))).not.toEqual(new Set(chosen(8).map(nameOf)));
  });

  it.each([1, 2, 3, 4, 5])("fits its budget and runs nothing twice, seed %i", (seed) => {
    const { planned, left } = plan(pieces(), { seed, phases: [quick] });
    const batches = planned.flatMap((one) => one.batches);
    const usual = batches.reduce((sum, batch) => sum + secondsOf(batch), 0);
    expect(usual).toBeLessThan(quick.minutes * 60 * LANES);
    expect(usual).toBeGreaterThan(quick.minutes * 60 * LANES * 0.6);
    const all = [...batches.flatMap((batch) => batch.pieces), ...left].map(nameOf);
    expect(all.toSorted()).toEqual(pieces().map(nameOf).toSorted());
  });

  it.each([1, 2, 3])("touches every suite first, however little time there is, seed %i", (seed) => {
    const { planned } = plan(pieces(), { seed, phases: [{ ...quick, minutes: 0.1 }] });
    const batches = planned[0]!.batches;
    expect(batches.map(({ suite }) => suite).toSorted()).toEqual(names.toSorted());
    expect(batches.every((batch) => batch.pieces.length === 1)).toBe(true);
    expect(batches.flatMap((batch) => batch.pieces).every(({ seconds }) => seconds < 120)).toBe(true);
  });

  it("of several phases goes on with what the ones before left, and uses what they leave", () => {
    const phases = [quick, { name: "none", minutes: 60, suites: ["iotests"] }];
    const { planned, left } = plan(pieces(), { seed: 3, phases });
    expect(planned.map(({ phase }) => phase.name)).toEqual(["quick", "none", "what is left"]);
    expect(planned.map(({ endMinutes }) => endMinutes)).toEqual([3, 63, 63]);
    expect(planned[1]!.batches).toEqual([]);
    expect(left).toEqual([]);
    const all = planned.flatMap(({ batches }) => batches.flatMap((batch) => batch.pieces));
    expect(all.map(nameOf).toSorted()).toEqual(pieces().map(nameOf).toSorted());
  });

  it("without a limit is everything", () => {
    expect(chosen(1, [{ ...quick, minutes: Infinity }])).toHaveLength(pieces().length);
  });

  it("runs the parts of a file alone, each in its own name", () => {
    const sim = { suite: "sim", file: "test/sim/stories.test.ts" };
    const parts = piecesOf(sim, { sim: { [sim.file]: 80 } });
    expect(parts.map(({ shard, seconds }) => [shard, seconds])).toEqual([
      ["1/4", 20],
      ["2/4", 20],
      ["3/4", 20],
      ["4/4", 20],
    ]);
    const whole = plan(parts, { seed: 1, phases: [{ name: "all", minutes: Infinity, suites: ["sim"] }] });
    expect(whole.planned[0]!.batches.map((batch) => batch.pieces.length)).toEqual([1, 1, 1, 1]);
    expect(nameOf(parts[1]!)).toBe("test/sim/stories.test.ts, part 2/4");
  });

  it("takes a file that was never measured for a short one", () => {
    expect(piecesOf({ suite: "unit", file: "test/unit/new.test.ts" }, {})[0]?.seconds).toBe(10);
  });
});

describe("the clock", () => {
  const batch = (suite: string, seconds: number): Batch => ({
    suite,
    pieces: [{ suite, file: `test/${suite}/a.test.ts`, seconds }],
  });

  it("lets begin what should end in time at this machine's pace, in the plan's order", () => {
    const queue = [batch("unit", 100), batch("unit", 20), batch("unit", 10)];
    const touched = new Set(["unit"]);
    const next = (pace: number): number | undefined =>
      nextBatch(queue, { secondsLeft: 50, pace, touched, busy: new Set() })?.pieces[0]?.seconds;
    expect(next(3)).toBe(10);
    expect(next(1)).toBe(20);
    expect(next(1)).toBeUndefined();
    expect(queue).toHaveLength(1);
  });

  it("keeps no suite from its first piece", () => {
    const queue = [batch("crash", 100)];
    const late = { secondsLeft: -5, pace: 9, touched: new Set<string>(), busy: new Set<string>() };
    expect(nextBatch(queue, late)?.suite).toBe("crash");
  });

  it("lets no second one of a suite begin that runs alone", () => {
    const queue = [batch("browser", 5), batch("unit", 5)];
    const now = { secondsLeft: 50, pace: 1, touched: new Set(["browser"]), busy: new Set(["browser"]) };
    expect(nextBatch(queue, now)?.suite).toBe("unit");
    expect(nextBatch(queue, now)).toBeUndefined();
    expect(nextBatch(queue, { ...now, busy: new Set() })?.suite).toBe("browser");
  });

  it("learns how slow a machine is, and takes none for faster than usual", () => {
    const pace = new Pace();
    pace.note(batch("unit", 10), 1000);
    expect(pace.factor).toBe(1);
    pace.note(batch("unit", 84), 1000);
    expect(pace.factor).toBe(20);
    const fast = new Pace();
    fast.note(batch("unit", 97), 5);
    expect(fast.factor).toBe(1);
  });
});
