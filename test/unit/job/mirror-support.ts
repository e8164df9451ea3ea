// What the tests of the mirror share: two disks, a record of the events, the start of a job, and a guest.
import { expect } from "vitest";
import { BlockBackend, guestPermissions } from "../../../src/block/graph/backend.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import { startMirror } from "../../../src/job/mirror/mirror.ts";
import type { MirrorJob } from "../../../src/job/mirror/job.ts";
import { mirrorTop } from "../../../src/job/mirror/top.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { cow } from "./cow-format.ts";

export type Args = Parameters<typeof startMirror>[1];
export type Faults = Record<string, unknown>[];

export interface Bench {
  test: TestGraph;
  /** Statuses and block-job events, in order. */
  events: string[];
  start: (args?: Partial<Args>) => Promise<MirrorJob>;
  ready: (job: MirrorJob) => Promise<void>;
  settle: <T>(promise: T | Promise<T>) => Promise<T>;
}

/** A source of 4 MiB, full of data, and a target. */
export async function bench(
  options: { size?: number; source?: Faults; target?: Faults; dstSize?: number } = {},
): Promise<Bench> {
  const made = new TestGraph();
  made.graph.register(mirrorTop, cow);
  const { size = 4 * MiB } = options;
  await made.disk("src", size, options.source);
  await made.disk("dst", options.dstSize ?? size, options.target);
  if (size > 0) await made.fill("src", 0, size, 1);
  const events: string[] = [];
  made.graph.events.subscribe(({ event, data }) => {
    const { status, operation, action, offset, len, error } = data as Record<
      string,
      string | number | undefined
    >;
    if (status !== undefined) events.push(String(status));
    else if (event === "BLOCK_JOB_ERROR") events.push(`error ${operation} ${action}`);
    else events.push(`${event.slice(10)} ${offset}/${len}${error === undefined ? "" : ` ${error}`}`);
  });
  return {
    test: made,
    events,
    start: (args = {}) =>
      startMirror(made.graph, { "job-id": "j", device: "src", target: "dst", sync: "full", ...args }),
    ready: async (job) => {
      for (let idle = 0; !job.isReady && !job.isCompleted && idle < 2000;)
        idle = (await made.host.clock.step()) ? 0 : idle + 1;
    },
    settle: (promise) => made.host.clock.settle(promise),
  };
}

/** A guest over a node, for its writes. */
export async function guest(test: TestGraph, node = "src"): Promise<BlockBackend> {
  const backend = new BlockBackend(test.graph, "guest");
  await backend.attach(test.graph.node(node), guestPermissions);
  return backend;
}

/** Nothing of the job is left behind. */
export function expectGone({ test }: Bench): void {
  expect(jobsOf(test.graph).jobs).toEqual([]);
  expect(test.graph.nodes.filter((node) => node.type.name === "mirror_top")).toEqual([]);
  expect(test.graph.arena.inUse).toBe(0);
  for (const node of test.graph.nodes) {
    expect([node.name, node.quiesceCounter, node.inFlight, node.dirtyBitmaps.length]).toEqual([
      node.name,
      0,
      0,
      0,
    ]);
    expect(node.blockedBy("resize") ?? "").not.toContain("block job");
  }
}
