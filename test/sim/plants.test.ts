// Faults planted in the engine: a simulator that does not notice them is worth nothing.
import type { Answer } from "../../src/base/answer.ts";
import { describe, expect, it } from "vitest";
import type { BlockNode } from "../../src/block/model/node.ts";
import { MirrorJob } from "../../src/job/mirror/job.ts";
import type { Engine } from "../../src/machine/engine.ts";
import { Dice } from "../../src/sim/dice.ts";
import { SimHost } from "../../src/sim/host.ts";
import { Model } from "../../src/sim/model.ts";
import { type JobPlan, type StoryPlan, pathOf, planStory } from "../../src/sim/plan.ts";
import { checkQcow2 } from "../../src/sim/qcow2-check.ts";
import { sparseMirror } from "./seeds.ts";
import { runStory } from "./run-story.ts";
import { World } from "../../src/sim/world.ts";

/** Stories that a plant may take to be noticed. */
const TRIES = 12;

/** Runs stories with a planted fault until one has violations; returns the first of them. */
async function firstViolation(
  sabotage: (engine: Engine, plan: StoryPlan) => void,
  adjust: (plan: StoryPlan) => void,
): Promise<string> {
  for (let seed = 1; seed <= TRIES; seed++) {
    const { violations } = await runStory(seed, { sabotage, adjust });
    if (violations.length > 0) return violations.join("\n");
  }
  return "nothing";
}

/** A story without faults, with a busy guest and this job. */
function calmStory(job: Partial<JobPlan>): (plan: StoryPlan) => void {
  return (plan) => {
    plan.faults = [];
    plan.space = [];
    plan.cutMs = 0;
    plan.userMs = 0;
    plan.mayCancel = false;
    plan.guest.lanes = 4;
    Object.assign(plan.job, { speed: 0, startMs: 50, ending: "complete", ...job });
    for (const image of plan.chain) image.memory = false;
    if (plan.job.kind === "mirror" || plan.job.kind === "backup")
      plan.target ??= { ...plan.chain.at(-1)!, name: "target", memory: false, format: "qcow2", fill: 0 };
    else plan.target = undefined;
    // Chain jobs need a chain.
    if (plan.target) return;
    while (plan.chain.length < 2)
      plan.chain.push({ ...plan.chain[0]!, name: `disk${plan.chain.length}`, format: "qcow2" });
    plan.job.top = plan.chain.length - 1;
    plan.job.base = plan.job.kind === "stream" ? -1 : 0;
  };
}

const mirror = calmStory({ kind: "mirror", sync: "full", writeBlocking: false });
const backup = calmStory({ kind: "backup", sync: "full" });
const stream = calmStory({ kind: "stream", sync: "full" });

function topOf(engine: Engine, plan: StoryPlan): BlockNode {
  return engine.graph.node(plan.chain.at(-1)!.name);
}

/** Has every n-th call of a driver's hook do nothing. */
function drop(node: BlockNode, hook: "pread" | "pwrite", nth: number): void {
  const { driver } = node;
  const original = driver[hook]!.bind(driver);
  let calls = 0;
  driver[hook] = (offset: number, buffer: Uint8Array, flags: number): Answer<void> =>
    ++calls % nth === 0 ? undefined : original(offset, buffer, flags);
}

describe("stories notice", () => {
  it("none of the plants' stories fails by itself", async () => {
    for (const adjust of [mirror, backup, stream])
      expect(await firstViolation(() => undefined, adjust)).toBe("nothing");
  });

  it("a guest's write that is dropped", async () => {
    expect(await firstViolation((engine, plan) => drop(topOf(engine, plan), "pwrite", 5), stream)).toMatch(
      /wrong/,
    );
  });

  it("a read that returns nothing", async () => {
    expect(await firstViolation((engine, plan) => drop(topOf(engine, plan), "pread", 5), stream)).toMatch(
      /wrong/,
    );
  });

  it("a write to the target of a mirror that is dropped", async () => {
    expect(await firstViolation((engine) => drop(engine.graph.node("target"), "pwrite", 3), mirror)).toMatch(
      /wrong/,
    );
  });

  it("a write to the target of a backup that is dropped", async () => {
    const found = await firstViolation((engine) => drop(engine.graph.node("target"), "pwrite", 3), backup);
    expect(found).toMatch(/the target is wrong/);
  });

  it("a mirror that is not told of the guest's writes", async () => {
    const deafen = (engine: Engine): void => {
      engine.graph.events.subscribe(({ event, data }) => {
        const job = engine.jobs.find("job");
        if (event !== "JOB_STATUS_CHANGE" || data.status !== "running" || !(job instanceof MirrorJob)) return;
        job.bitmap.enabled = false;
        job.active.markDirty = () => undefined;
      });
    };
    expect(await firstViolation(deafen, mirror)).toMatch(/wrong/);
  });

  it("a write-blocking mirror that is deaf until it has found its data", async () => {
    const deafen = (engine: Engine): void => {
      engine.graph.events.subscribe(({ event, data }) => {
        const job = engine.jobs.find("job");
        if (event === "JOB_STATUS_CHANGE" && data.status === "running" && job instanceof MirrorJob)
          job.bitmap.enabled = false;
      });
    };
    expect(await firstViolation(deafen, sparseMirror)).toMatch(/wrong/);
  });

  it("a backup without copies before writes", async () => {
    const deafen = (engine: Engine): void => {
      engine.graph.events.subscribe(({ event, data }) => {
        const filter = engine.graph.nodes.find((node) => node.type.name === "copy-before-write");
        const copy =
          filter && (filter.driver as unknown as { copy: { copyRange: () => Promise<void> } }).copy;
        if (event === "JOB_STATUS_CHANGE" && data.status === "running" && copy)
          copy.copyRange = () => Promise.resolve();
      });
    };
    expect(await firstViolation(deafen, backup)).toMatch(/the target is wrong/);
  });

  it("a job that hangs", async () => {
    const hang = (engine: Engine): void => {
      engine.graph.node("target").driver.flush = () => new Promise(() => undefined);
    };
    expect(await firstViolation(hang, mirror)).toMatch(/stuck/);
  });

  it("a state that may not follow", async () => {
    const lie = (engine: Engine): void => {
      const stop = engine.graph.events.subscribe(({ event, data }) => {
        if (event !== "JOB_STATUS_CHANGE" || data["status"] !== "running") return;
        stop();
        engine.graph.events.emit("JOB_STATUS_CHANGE", { id: "job", status: "concluded" });
      });
    };
    expect(await firstViolation(lie, stream)).toMatch(/status created -> concluded/);
  });

  it("a slot of the arena that is not given back", async () => {
    expect(await firstViolation((engine) => void engine.graph.arena.tryAcquire(1), stream)).toMatch(
      /of the arena/,
    );
  });

  it("a node that is referenced for good", async () => {
    const leak = (engine: Engine, plan: StoryPlan): void => engine.graph.reference(topOf(engine, plan));
    expect(await firstViolation(leak, stream)).toMatch(/still referenced/);
  });

  it("an error that is answered against the policy", async () => {
    const lie = (engine: Engine): void => {
      const { events } = engine.graph;
      const emit = events.emit.bind(events);
      events.emit = (event, ...data) => {
        if (data[0] && event === "BLOCK_JOB_ERROR") Object.assign(data[0], { action: "ignore" });
        emit(event, ...data);
      };
    };
    const adjust = (plan: StoryPlan): void => {
      mirror(plan);
      plan.job.onTargetError = "stop";
      const always = { fromMs: 0, toMs: plan.calmMs, perMille: 1000, errno: "EIO" } as const;
      plan.faults = [{ path: pathOf("target"), verbs: ["write", "zeroRange", "punchHole"], ...always }];
      if (plan.target) plan.target.memory = false;
    };
    expect(await firstViolation(lie, adjust)).toMatch(/action ignore for EIO under stop/);
  });
});

/** A sound qcow2 image with some content. */
async function image(): Promise<Uint8Array> {
  const host = new SimHost(1);
  const plan = planStory(1, new Dice(1));
  const first = plan.chain[0]!;
  const made = {
    ...first,
    format: "qcow2" as const,
    memory: false,
    clusterSize: 4096,
    refcountBits: 16,
    version: "v3" as const,
  };
  plan.chain = [{ ...made, size: 2 ** 20, fill: 8, lazyRefcounts: false }];
  plan.target = undefined;
  const world = new World(host, plan, new Dice(2));
  await host.scheduler.settle(world.create(), { limitMs: 1000, maxSteps: 100_000 });
  const data = host.files.data(pathOf(first.name));
  return data.bytes.slice(0, data.size);
}

describe("the judge of qcow2 images", () => {
  it("passes a sound image", async () => {
    expect(checkQcow2(await image())).toEqual({ errors: [], leaks: 0 });
  });

  it("sees a refcount that is too low, and one that is too high", async () => {
    const bytes = await image();
    const view = new DataView(bytes.buffer);
    const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
    view.setUint16(block, 0);
    expect(checkQcow2(bytes).errors.join()).toMatch(/cluster 0: refcount 0, references 1/);
    view.setUint16(block, 7);
    expect(checkQcow2(bytes).leaks).toBe(1);
  });

  it("sees a cluster that is used twice", async () => {
    const bytes = await image();
    const view = new DataView(bytes.buffer);
    const l1 = Number(view.getBigUint64(40));
    const tables = [...Array(view.getUint32(36)).keys()].map((i) =>
      Number(view.getBigUint64(l1 + 8 * i) & 0x00fffffffffffe00n),
    );
    const l2 = tables.find((offset) => offset !== 0)!;
    const used = [...Array(512).keys()].filter(
      (i) => (view.getBigUint64(l2 + 8 * i) & 0x00fffffffffffe00n) !== 0n,
    );
    view.setBigUint64(l2 + 8 * used[0]!, view.getBigUint64(l2 + 8 * used[1]!));
    expect(checkQcow2(bytes).errors.join()).toMatch(/used twice/);
  });
});

describe("the model", () => {
  it("knows what is certain", () => {
    const model = new Model(new Uint8Array(2048));
    model.write(0, new Uint8Array(1024).fill(5));
    model.discard(512, 512, false);
    model.forget(1024, 512);
    const shown = model.content.slice();
    shown.fill(0, 512, 1024);
    shown.fill(9, 1024, 1536);
    expect(model.difference(0, shown)).toBe(-1);
    shown[600] = 1;
    expect(model.difference(0, shown)).toBe(512);
    shown[0] = 1;
    expect(model.difference(0, shown)).toBe(0);
  });
});
