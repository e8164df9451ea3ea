/** The gate: equal results are no worse, one flush more in a hundred writes is, and noise gives no verdict. */
import { describe, expect, it } from "vitest";
import { type ResultDocument, type WorkloadJson, gate, runWorkload } from "../../../src/workload.ts";
import { compareText } from "../../../src/workload/gate/compare.ts";
import { asResult } from "../../../src/workload/gate/metrics.ts";
import { randomness } from "../../support/random.ts";

const workload: WorkloadJson = {
  size: "4M",
  workers: [{ mix: "write", locality: "random", requests: 400, depth: 4, flushEvery: 50 }],
};

const base = await runWorkload(workload);

/** The result with a figure changed. */
function changed(change: (result: Record<string, unknown>) => void): ResultDocument {
  const copy = structuredClone(base) as unknown as Record<string, unknown>;
  change(copy);
  return copy as unknown as ResultDocument;
}

/** Of runs of a millisecond at a load of 6 on two processors, as measured: which part of them takes no longer than so many of their second hundredth. */
const measured: readonly (readonly [number, number])[] = [
  ...([
    [0, 0.93],
    [0.003, 0.96],
    [0.01, 0.985],
    [0.02, 1],
    [0.05, 1.027],
    [0.1, 1.06],
  ] as const),
  ...([
    [0.2, 1.14],
    [0.3, 1.4],
    [0.5, 2.3],
    [0.75, 8],
    [1, 10],
  ] as const),
];

function asMeasured(place: number): number {
  const next = measured.findIndex(([part]) => part > place);
  const [[from, low], [to, high]] = [measured[next - 1]!, measured[next]!];
  return low + ((high - low) * (place - from)) / (to - from);
}

describe("on the virtual clock", () => {
  it("the same run is no worse, again and again", async () => {
    for (let i = 0; i < 5; i++)
      expect(gate(base, await runWorkload(workload))).toEqual({
        verdict: "no worse",
        worse: [],
        better: [],
        notes: [],
      });
  });

  it("one flush more in a hundred writes is worse", async () => {
    const more = await runWorkload({ ...workload, workers: [{ ...workload.workers![0]!, flushEvery: 48 }] });
    const { verdict, worse } = gate(base, more);
    expect(verdict).toBe("worse");
    expect(worse.map(({ name }) => name)).toContain("device.flush.requests");
  });

  it("a slower device is worse, a faster one is not", async () => {
    const slow = await runWorkload(workload, { device: "disk" });
    expect(gate(base, slow).verdict).toBe("worse");
    expect(gate(slow, base).verdict).toBe("no worse");
    expect(gate(slow, base).notes).toEqual(["the devices differ: disk and ssd"]);
  });

  it("of runs that end by time a faster one is no worse, and one metadata request more in a hundred is", async () => {
    const timed: WorkloadJson = {
      size: "4M",
      workers: [{ mix: { read: 70, write: 30 }, locality: "random", depth: 4, duration: "2s" }],
    };
    const device = (write: string): object => ({
      channels: 4,
      latency: { read: "1ms", write, flush: "1ms" },
    });
    const [slow, fast] = await Promise.all(
      ["2ms", "1500us"].map((write) => runWorkload(timed, { device: device(write) })),
    );
    expect(fast!.totals.read!.requests).toBeGreaterThan(slow!.totals.read!.requests);
    expect(gate(slow, fast).verdict).toBe("no worse");
    expect(gate(fast, slow).verdict).toBe("worse");
    const more = structuredClone(fast!);
    more.devices[0]!.requests.read = Math.round(more.devices[0]!.requests.read * 1.01);
    Object.assign(more.digest, { requests: "0" });
    expect(gate(fast, more).worse.map(({ name }) => name)).toEqual(["device.read.requests"]);
  });

  it("a tolerance is one", () => {
    const slower = changed((copy) => (copy["elapsedNs"] = Math.round(base.elapsedNs * 1.01)));
    expect(gate(base, slower).verdict).toBe("worse");
    expect(gate(base, slower, { tolerancePercent: 2 }).verdict).toBe("no worse");
  });
});

describe("no verdict", () => {
  it.each<[string, (copy: Record<string, unknown>) => void]>([
    ["the seeds differ: 1 and 2", (copy) => (copy["seed"] = 2)],
    ["the clocks differ: virtual and real", (copy) => (copy["clock"] = "real")],
    ["the new run was cancelled", (copy) => (copy["status"] = "cancelled")],
  ])("%s", (note, change) => {
    expect(gate(base, changed(change))).toMatchObject({ verdict: "no verdict", notes: [note] });
  });

  it("a run that failed now is worse", () => {
    expect(
      gate(
        base,
        changed((copy) => (copy["status"] = "failed")),
      ).verdict,
    ).toBe("worse");
  });
});

describe("on the real clock", () => {
  const real = (samplesNs: readonly number[]): ResultDocument =>
    changed((copy) => Object.assign(copy, { clock: "real", samplesNs }));
  const noisy = (factor: number, spread: number): number[] =>
    Array.from({ length: 15 }, (_, i) => factor * (1e9 + ((i * 7919) % 15) * spread));

  it("one run says nothing", () => {
    const verdict = gate(real([]), real([]));
    expect(verdict.verdict).toBe("no verdict");
    expect(verdict.notes[0]).toContain("needs 5 runs");
  });

  it("an interval decides, or noise forbids it", () => {
    expect(gate(real(noisy(1, 1e6)), real(noisy(1.1, 1e6))).verdict).toBe("worse");
    expect(gate(real(noisy(1, 1e6)), real(noisy(1, 1e6)))).toMatchObject({
      verdict: "no worse",
      interval: { ratio: 1, pairs: 15 },
    });
    expect(gate(real(noisy(1, 1e8)), real(noisy(1.05, 2e8).toReversed())).verdict).toBe("no verdict");
  });

  it.each([
    // Two in three runs are held up, by a third and more, and each part of the runs in its own way.
    [
      "some undisturbed",
      320,
      (random: (limit: number) => number, i: number) =>
        random(3) > 0 ? 1.3 + random(400) / 1000 + (i >> 5) / 50 : 1,
    ],
    ["nearly all disturbed", 1600, (random: (limit: number) => number) => asMeasured(random(1e6) / 1e6)],
  ])("of many runs the quickest decide, so that other programs trip nothing: %s", (_name, runs, held) => {
    const random = randomness(5);
    const disturbed = (factor: number): number[] =>
      Array.from({ length: runs }, (_, i) => factor * held(random, i) * (1e7 + random(2e5)));
    const counts = { alarms: 0, found: 0, undecided: 0 };
    for (let trial = 0; trial < 50; trial++) {
      const before = real(disturbed(1));
      const [even, slower] = [1, 1.05].map((factor) =>
        gate(before, real(disturbed(factor)), { tolerancePercent: 2 }),
      );
      if (even!.verdict === "worse") counts.alarms += 1;
      if (even!.verdict === "no verdict") counts.undecided += 1;
      if (slower!.verdict === "worse") counts.found += 1;
    }
    expect(counts).toMatchObject({ alarms: 0, found: 50 });
    expect(counts.undecided).toBeLessThan(3);
  });
});

it.each([undefined, 5, {}, { format: "blockwright-workload-result" }])("%j is no result", (value) => {
  expect(() => gate(value, base)).toThrow("the base is");
  expect(() => gate(base, value)).toThrow("the new result is");
});

it("a comparison tells each figure and whether the runs did the same", () => {
  const text = compareText(
    base,
    changed((copy) => (copy["elapsedNs"] = base.elapsedNs * 2)),
  );
  expect(text).toContain("requests: same (");
  expect(text).toMatch(/elapsedNs: \d+ -> \d+ \(\+100\.000 %\)/);
});

describe("a result that is not whole", () => {
  /** Where its parts are, down to what has no parts. */
  function* pathsOf(value: unknown, path: string[] = []): Generator<string[]> {
    if (path.length > 0) yield path;
    if (typeof value !== "object" || value === null || path.length > 4) return;
    for (const [name, part] of Object.entries(value).slice(0, Array.isArray(value) ? 1 : undefined))
      yield* pathsOf(part, [...path, name]);
  }

  function broken(path: readonly string[], value: unknown): ResultDocument {
    return changed((copy) => {
      let at = copy;
      for (const name of path.slice(0, -1)) at = at[name] as Record<string, unknown>;
      at[path.at(-1)!] = value;
    });
  }

  it("is bad input, or what is wrong decides nothing", () => {
    let refused = 0;
    for (const path of pathsOf(base))
      for (const value of [null, "x", -1, {}, []]) {
        const result = broken(path, value);
        for (const judge of [() => gate(base, result), () => gate(result, base)])
          try {
            expect(["no worse", "worse", "no verdict"]).toContain(judge().verdict);
          } catch (error) {
            expect(error, path.join(".")).toMatchObject({ name: "WorkloadError" });
            refused += 1;
          }
      }
    expect(refused).toBeGreaterThan(100);
  });

  it("may leave out what went wrong and what was ignored, where that is nothing", () => {
    const bare = changed((copy) => {
      delete copy["errors"];
      delete copy["ignored"];
    });
    expect(gate(bare, base).verdict).toBe("no worse");
    expect(gate(base, bare).verdict).toBe("no worse");
    expect(asResult(bare, "it")).toMatchObject({ errors: [], ignored: [] });
  });

  it.each([
    "elapsedNs",
    "status",
    "totals.write.requests",
    "totals.write.response.meanNs",
    "totals.write.response.percentilesNs.p99",
    "devices.0.busyNs",
    "devices.0.bytes.write",
    "resources.arenaPeakBytes",
  ])("%s that is no number is not taken for no worse", (name) => {
    const result = broken(name.split("."), "x");
    expect(() => gate(base, result)).toThrow("the new result is a result that is not whole");
    expect(() => gate(result, base)).toThrow("the base is a result that is not whole");
  });
});
