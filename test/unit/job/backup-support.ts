// What the tests of the backup job share: two disks, a record of the events, and the start of a job.
import { type BackupArgs, startBackup } from "../../../src/job/backup/backup.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { expect } from "vitest";

export const EIO = 5;
export const ENOSPC = 28;

/** A test's graph, and what it does with it. */
export interface Setup {
  test: TestGraph;
  events: string[];
  start: (args?: Partial<BackupArgs>) => ReturnType<typeof startBackup>;
  settle: <T>(promise: T | Promise<T>) => Promise<T>;
}

/** inject-error rules. */
export interface Faults {
  source?: Record<string, unknown>[];
  target?: Record<string, unknown>[];
}

/** A source of 4 MiB, full of data, and a target; `events` lists statuses and block job events. */
export async function setup({
  size = 4 * MiB,
  faults,
}: { size?: number; faults?: Faults } = {}): Promise<Setup> {
  const test = new TestGraph();
  await test.disk("src", size, faults?.source);
  await test.disk("dst", size, faults?.target);
  await test.fill("src", 0, size, 1);
  const events: string[] = [];
  test.graph.events.subscribe(({ event, data }) => {
    if (event === "JOB_STATUS_CHANGE") events.push(data.status);
    else if (event === "BLOCK_JOB_ERROR") events.push(`error ${data.operation} ${data.action}`);
    else if ("len" in data) {
      const error = "error" in data && data.error !== undefined ? ` ${data.error}` : "";
      events.push(`${event.slice(10)} ${data.offset}/${data.len}${error}`);
    } else events.push(event);
  });
  const start: Setup["start"] = (args = {}) =>
    startBackup(test.graph, { "job-id": "j", device: "src", target: "dst", sync: "full", ...args });
  return { test, events, start, settle: (promise) => test.host.clock.settle(promise) };
}

/** Statuses at the start of every backup. */
export const beginning = ["created", "running", "paused", "running"];
/** Statuses before the end of one that succeeds. */
export const ending = ["waiting", "pending"];
/** The completion of a job that copied all. */
export const full = `COMPLETED ${4 * MiB}/${4 * MiB}`;

/** Asserts that no trace of the job is left. */
export function expectGone({ test }: Setup): void {
  expect(jobsOf(test.graph).jobs).toEqual([]);
  expect(test.graph.nodes.filter((node) => node.type.name === "copy-before-write")).toEqual([]);
  expect(test.graph.node("src").parents.size).toBe(0);
  expect(test.graph.arena.inUse).toBe(0);
}

/** The request at 256 KiB fails once. */
export const once = (iotype: string, errno: number): Record<string, unknown>[] => [
  { event: "none", iotype, errno, sector: 512, once: true },
];
/** It fails every time. */
export const always = (iotype: string, errno: number): Record<string, unknown>[] => [
  { event: "none", iotype, errno, sector: 512, once: false },
];
