/** The simulator as a product: described graphs, one document from a seed, power cuts, and stories made smaller. */
import { describe, expect, it } from "vitest";
import { watchRejections } from "../../src/platform/node/rejections.ts";
import { GraphError, readGraph } from "../../src/sim/graph.ts";
import { type SimulateOptions, simulate } from "../../src/sim/simulate.ts";
import type { Engine } from "../../src/machine/engine.ts";
import type { StoryPlan } from "../../src/sim/plan.ts";

const run = (options: SimulateOptions): ReturnType<typeof simulate> =>
  simulate({ watchRejections, ...options });

/** Filters over, between and below the images, a target, and what they are made with. */
const graph = {
  size: "256k",
  disk: {
    driver: "throttle",
    "throttle-group": "slow",
    "node-name": "limit",
    file: {
      driver: "qcow2",
      "node-name": "top",
      create: { "cluster-size": 4096 },
      file: { driver: "blkdebug", image: { driver: "file", filename: "top.qcow2" } },
      backing: "below",
    },
  },
  nodes: [
    { driver: "throttle", "throttle-group": "slow", "node-name": "below", file: "mid" },
    { driver: "qcow2", "node-name": "mid", file: { driver: "file", filename: "m" }, backing: "base" },
    { driver: "raw", "node-name": "base", file: { driver: "file", filename: "base.img" } },
  ],
  target: { driver: "qcow2", "node-name": "copy", file: { driver: "file", filename: "copy.qcow2" } },
  "throttle-groups": [{ id: "slow", limits: { "bps-total": 50_000_000 } }],
};

/** Has flushes of files do nothing: what they cover is then at the mercy of a power cut. */
function flushless(engine: Engine): void {
  for (const node of engine.graph.nodes) if (node.type.name === "file") node.driver.flush = () => undefined;
}

describe("a run of stories", () => {
  it("is one document, the same from the same seed, and tells its only story", async () => {
    const [first, second] = [await run({ seed: 12 }), await run({ seed: 12 })];
    expect(second).toEqual(first);
    expect(JSON.parse(JSON.stringify(first))).toEqual(first);
    expect(first).toMatchObject({ status: "ok", seed: 12, stories: 1, wrong: 0, errors: [] });
    expect(first.story?.trace.join("\n")).toMatch(
      /event JOB_STATUS_CHANGE \{"status":"created","id":"job"\}/,
    );
  });

  it("counts stories, faults and power cuts from a seed on, or until it is over", async () => {
    const some = await run({ seed: 40, stories: 12 });
    expect(some).toMatchObject({ stories: 12, status: "ok", story: null });
    expect(some.faults).toBeGreaterThan(0);
    expect(some.powerCuts).toBeGreaterThan(0);
    let asked = 0;
    expect(await run({ isOver: () => ++asked > 2 })).toMatchObject({ seed: 1, stories: 3 });
  });
});

describe("a described graph", () => {
  it("has stories of every job, with filters wherever they stand", async () => {
    const document = await run({ graph, stories: 24 });
    expect(document.violations).toEqual([]);
    const kinds = Object.keys(document.outcomes).map((outcome) => outcome.split(" ")[0]);
    expect(new Set(kinds)).toEqual(new Set(["mirror", "backup", "stream", "commit", "active-commit"]));
  });

  it("fixes what it says of jobs", async () => {
    const jobs = [{ type: "mirror", sync: "full", "copy-mode": "write-blocking", "on-target-error": "stop" }];
    const { story } = await run({ graph: { ...graph, jobs }, seed: 3 });
    expect(story?.plan.job).toMatchObject({ kind: "mirror", sync: "full", writeBlocking: true });
    expect(story?.plan.job.onTargetError).toBe("stop");
    expect(story?.plan.chain.map(({ name, size }) => [name, size])).toEqual(
      ["base", "mid", "top"].map((name) => [name, 2 ** 18]),
    );
  });

  it("is a node as blockdev-add takes it, too", async () => {
    const node = { driver: "qcow2", "node-name": "only", file: { driver: "file", filename: "a" } };
    expect(await run({ graph: node, stories: 3 })).toMatchObject({ status: "ok", stories: 3 });
  });

  it.each([
    [7, /a graph is an object/],
    [{}, /needs 'disk'/],
    [{ disk: "none" }, /there is no node 'none'/],
    [{ ...graph, extra: 1 }, /a graph has no 'extra'/],
    [{ ...graph, size: 17 }, /no length/],
    [{ ...graph, jobs: ["format"] }, /there is no job 'format'/],
    [{ ...graph, jobs: [{ type: "mirror", bitmap: "b" }] }, /'bitmap' can't be given/],
    [{ ...graph, jobs: [{ type: "mirror", sync: "half" }] }, /"half" is no 'sync'/],
    [{ ...graph, jobs: [{ type: "mirror", sync: "incremental" }] }, /only a backup is incremental/],
    [{ driver: "qcow2", file: { driver: "memory" } }, /only a raw image can be in memory/],
    [{ driver: "nbd", host: "h" }, /the driver 'nbd' can't be simulated/],
    [{ driver: "raw", file: { driver: "raw", file: { driver: "file" } } }, /'raw' can't be simulated/],
    [{ driver: "raw", backing: { driver: "raw" } }, /a raw image has no backing file/],
    [{ disk: { driver: "raw" }, jobs: ["stream"] }, /stream needs a disk with a backing file/],
    [{ driver: "qcow2", create: { encrypt: 1 } }, /'create' has no 'encrypt'/],
    [{ driver: "blkdebug", "inject-error": [], image: { driver: "raw" } }, /the story's to inject/],
    [{ disk: "a", nodes: [{ driver: "throttle", "node-name": "a", file: "a" }] }, /is used twice/],
  ])("is refused where it can't be simulated: %j", (json, words) => {
    expect(() => readGraph(json)).toThrow(GraphError);
    expect(() => readGraph(json)).toThrow(words);
  });

  it("is refused with the engine's words where it can't be opened", async () => {
    const unknown = { driver: "throttle", "throttle-group": "none", file: { driver: "raw" } };
    await expect(run({ graph: unknown })).rejects.toThrow(/the graph can't be opened: .*none/);
  });
});

describe("what goes wrong", () => {
  it("is found under a power cut, made smaller, and replayed from the document", async () => {
    const document = await run({ seed: 1, stories: 30, sabotage: flushless, shrink: true });
    const { violations, shrunk, steps } = document.violations[0]!;
    expect(document.status).toBe("violations");
    expect(violations.join("\n")).toMatch(/after the power cut/);
    expect(shrunk!.steps).toBeLessThanOrEqual(20);
    expect(shrunk!.steps).toBeLessThan(steps);
    const { plan } = JSON.parse(JSON.stringify(shrunk)) as { plan: StoryPlan };
    const again = await run({ plan, sabotage: flushless });
    expect(again.story).toEqual(shrunk);
  });
});
