// A campaign's processes: each kind plays its seeds and counts them, and what is wrong is told with its replay.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { sumOf, talliedIn, toldTally } from "../support/tally.ts";
import { playSeed, runLane } from "./campaign.ts";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-tally-"));
  file = join(folder, "tally.jsonl");
  vi.stubEnv("BLOCKWRIGHT_TEST_TALLY", file);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

// However little time there is, one seed is played.
const lane = (kind: string, seed: number): Promise<number> =>
  runLane(["--kind", kind, "--seed", String(seed), "--minutes", "1e-9"]);

it("each kind plays a seed, and what it looked at is counted", async () => {
  expect(await lane("stories", 3)).toBe(0);
  const { requests, faults, ...counts } = talliedIn(file);
  expect(requests).toBeGreaterThan(50);
  expect(faults).toBeGreaterThan(0);
  expect(counts).toEqual({ stories: 1, crashStates: 0, mutants: 0 });
  expect(await lane("cuts", 1)).toBe(0);
  expect(await lane("mutants", 1)).toBe(0);
  expect(talliedIn(file)).toMatchObject({ stories: 1, requests, faults, crashStates: 60, mutants: 1 });
});

it("what is wrong is told with its replay, and counts for nothing", async () => {
  const replay = (seed: number): string => `SEED=${seed} run it`;
  const told = await playSeed(7, { play: () => Promise.reject(new Error("a byte is wrong")), replay });
  expect(told).toMatch(/^SEED=7 run it\nError: a byte is wrong\n/);
  expect(await playSeed(8, { play: () => Promise.resolve({ mutants: 2 }), replay })).toBeUndefined();
  expect(talliedIn(file)).toEqual(sumOf([{ mutants: 2 }]));
});

it("sums are told by what they count", () => {
  const sum = sumOf([
    { stories: 1, requests: 30, faults: 2 },
    { stories: 2 },
    { crashStates: 60, mutants: 4 },
  ]);
  const words = "3 seeds of stories, 30 I/Os, 2 faults, 60 crash states, 4 mutated images";
  expect(toldTally(sum)).toBe(words);
});
