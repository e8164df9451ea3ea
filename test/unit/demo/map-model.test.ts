// The model of the demo's map against a plain one that works everything out anew.
import { describe, expect, it } from "vitest";
import { MapModel, states } from "../../../src/dashboard/map-model.ts";
import { randomness } from "../../support/random.ts";

const CLUSTER = 65_536;

function shown(model: MapModel): string[] {
  return [...model.shown].map((state) => states[state]!);
}

describe("the map's model", () => {
  it("shows the strongest of what it knows", () => {
    const model = new MapModel(4 * CLUSTER - 5, CLUSTER);
    expect(shown(model)).toEqual(["absent", "absent", "absent", "absent"]);
    model.store(0, 2 * CLUSTER, "local");
    model.store(2 * CLUSTER, CLUSTER, "zero");
    expect(shown(model)).toEqual(["local", "local", "zero", "absent"]);
    const end = model.begin(CLUSTER + 100, CLUSTER);
    expect(shown(model)).toEqual(["local", "flight", "flight", "absent"]);
    end("written");
    expect(shown(model)).toEqual(["local", "dirty", "dirty", "absent"]);
    model.job(CLUSTER, 8 * CLUSTER, "runs");
    expect(shown(model)).toEqual(["local", "dirty", "dirty", "flight"]);
    model.job(3 * CLUSTER, CLUSTER, "failed");
    expect(shown(model)).toEqual(["local", "dirty", "dirty", "failed"]);
    expect(model.summary).toContain("1 local, 2 dirty, 0 in flight, 1 failed");
    model.job(0, 0, "rests");
    model.begin(0, 512)("failed");
    expect(shown(model)).toEqual(["failed", "dirty", "dirty", "absent"]);
    model.begin(0, 512)("read");
    expect(shown(model)[0]).toBe("local");
    expect(model.missing).toBe(1);
  });

  it("tells of each change once, and keeps its counts", () => {
    const next = randomness(7);
    const model = new MapModel(500 * CLUSTER, CLUSTER);
    const painted = new Uint8Array(500);
    model.takeChanges(() => undefined);
    const open: ((how: "read" | "written" | "failed") => void)[] = [];
    for (let round = 0; round < 2000; round++) {
      const [offset, bytes] = [next(490) * CLUSTER, (1 + next(10)) * CLUSTER];
      const act = next(4);
      if (act === 0) model.store(offset, bytes, (["absent", "zero", "local"] as const)[next(3)]!);
      if (act === 1) open.push(model.begin(offset, bytes));
      if (act === 2) open.shift()?.((["read", "written", "failed"] as const)[next(3)]!);
      if (act === 3) model.job(offset, bytes, (["runs", "failed", "rests"] as const)[next(3)]!);
      if (next(5) > 0) continue;
      const seen = new Set<number>();
      model.takeChanges((cluster, state) => {
        expect(seen.has(cluster)).toBe(false);
        seen.add(cluster);
        painted[cluster] = state;
      });
      expect(painted).toEqual(model.shown);
    }
    for (const [state] of states.entries()) {
      expect(model.counts[state]).toBe(model.shown.filter((value) => value === state).length);
    }
    let all = 0;
    model.changeAll();
    model.takeChanges(() => (all += 1));
    expect(all).toBe(500);
  });
});
