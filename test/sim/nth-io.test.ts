// Every I/O of every job fails in its turn, once or for good, from the start to the end, under each policy that matters; what the
// guest sees, what lies in the files, and all that the job takes for a while is judged afterwards.
import { describe, expect, test } from "vitest";
import { startBackup, startDriveBackup } from "../../src/job/backup/backup.ts";
import { startCommit } from "../../src/job/commit/commit.ts";
import type { Job } from "../../src/job/core/job.ts";
import { startAmend } from "../../src/job/create/amend.ts";
import { startCreate } from "../../src/job/create/create.ts";
import { startDriveMirror } from "../../src/job/mirror/drive-mirror.ts";
import { startMirror } from "../../src/job/mirror/mirror.ts";
import { startStream } from "../../src/job/stream/stream.ts";
import { same } from "../unit/support/graph.ts";
import { type Policy, SIZE, type Story, World } from "./nth-io-world.ts";

const complete = (job: Job): Promise<void> => job.complete();
const leave = (job: Job): Promise<void> => job.cancel({ force: false });
const both = (policy: Policy) => ({ "on-source-error": policy, "on-target-error": policy });

const stories: Record<string, Story> = {
  "mirror full": {
    make: (world) => world.disks(),
    start: ({ test: { graph } }, policy) =>
      startMirror(graph, { "job-id": "j", device: "src", target: "dst", sync: "full", ...both(policy) }),
    ready: complete,
    disk: "src",
    after: "dst",
  },
  "mirror full, left as a copy": {
    make: (world) => world.disks(),
    start: ({ test: { graph } }, policy) =>
      startMirror(graph, { "job-id": "j", device: "src", target: "dst", sync: "full", ...both(policy) }),
    ready: leave,
    disk: "src",
    copy: "dst",
  },
  "mirror none": {
    make: (world) => world.disks(),
    start: ({ test: { graph } }, policy) =>
      startMirror(graph, { "job-id": "j", device: "src", target: "dst", sync: "none", ...both(policy) }),
    ready: leave,
    disk: "src",
  },
  "drive-mirror top": {
    make: (world) => world.chain(),
    start: ({ test: { graph } }, policy) => {
      const args = { target: "copy", format: "qcow2", sync: "top", "node-name": "copy" } as const;
      return startDriveMirror(graph, { "job-id": "j", device: "top", ...args, ...both(policy) });
    },
    ready: complete,
    disk: "top",
    after: "copy",
  },
  "active commit": {
    make: (world) => world.chain(),
    start: ({ test: { graph } }, policy) =>
      startCommit(graph, { "job-id": "j", device: "top", "base-node": "base", "on-error": policy }),
    ready: complete,
    disk: "top",
    after: "base",
  },
  commit: {
    make: (world) => world.chain(),
    start: ({ test: { graph } }, policy) => {
      const nodes = { "top-node": "mid", "base-node": "base" };
      return startCommit(graph, { "job-id": "j", device: "top", ...nodes, "on-error": policy });
    },
    disk: "top",
  },
  stream: {
    make: (world) => world.chain(),
    start: ({ test: { graph } }, policy) =>
      startStream(graph, { "job-id": "j", device: "top", "base-node": "base", "on-error": policy }),
    disk: "top",
  },
  backup: {
    make: (world) => world.disks(),
    start: ({ test: { graph } }, policy) =>
      startBackup(graph, { "job-id": "j", device: "src", target: "dst", sync: "full", ...both(policy) }),
    disk: "src",
    copy: "dst",
    pointInTime: true,
  },
  "drive-backup top": {
    make: (world) => world.chain(),
    start: ({ test: { graph } }, policy) => {
      const args = { target: "copy", format: "qcow2", sync: "top" } as const;
      return startDriveBackup(graph, { "job-id": "j", device: "top", ...args, ...both(policy) });
    },
    disk: "top",
  },
  "blockdev-create": {
    make: async (world) => {
      await world.storage();
      await world.disks();
    },
    start: ({ test: { graph } }) =>
      startCreate(graph, { "job-id": "j", options: { driver: "qcow2", file: "new", size: 1 << 20 } }),
    disk: "src",
  },
  amend: {
    make: (world) => world.chain(),
    start: ({ test: { graph } }) => {
      const options = { driver: "qcow2", "refcount-bits": 64, size: SIZE };
      return startAmend(graph, { "job-id": "j", "node-name": "top", options });
    },
    disk: "top",
  },
};

/** One run. Returns how many I/Os there were, and whether the job succeeded. */
async function run(
  story: Story,
  policy: Policy,
  plan: { at: number; forGood: boolean } | undefined,
): Promise<{ count: number; succeeded: boolean }> {
  const world = new World();
  await story.make(world);
  world.files.arm(plan);
  let job: Job | undefined;
  let error: unknown;
  try {
    job = await story.start(world, policy);
  } catch (refused) {
    error = refused;
  }
  if (job) {
    await world.guestWrites();
    error = await world.follow(job, story.ready ?? (() => Promise.resolve()));
  }
  const { count } = world.files;
  world.files.disarm();
  const succeeded = error === undefined;
  const shown = world.guest.node?.name;
  expect(shown).toBe(succeeded ? (story.after ?? story.disk) : story.disk);
  world.expectNothingLeft({ asBefore: !job });
  await world.expectGuestContent();
  if (succeeded && story.copy !== undefined) {
    const want = story.pointInTime ? world.atFirst : world.seen;
    expect(same(await world.content(story.copy), want)).toBe(true);
  }
  if (!succeeded && story.again !== false) await again(story, world);
  await world.expectDurable(world.guest.node!.name);
  return { count, succeeded };
}

/** A job that has failed can be started again, and succeeds when nothing fails any more. */
async function again(story: Story, world: World): Promise<void> {
  const job = await story.start(world, "report");
  expect(await world.follow(job, story.ready ?? (() => Promise.resolve()))).toBeUndefined();
  expect(world.guest.node?.name).toBe(story.after ?? story.disk);
  world.expectNothingLeft({ asBefore: false });
  await world.expectGuestContent();
}

describe.each(Object.entries(stories))("%s", (name, story) => {
  const policies: Policy[] = ["blockdev-create", "amend"].includes(name)
    ? ["report"]
    : ["report", "ignore", "stop"];

  test.each(policies.flatMap((policy) => [true, false].map((forGood) => [policy, forGood] as const)))(
    "under %s, an I/O that fails (for good: %s)",
    async (policy, forGood) => {
      const whole = await run(story, policy, undefined);
      expect(whole.succeeded).toBe(true);
      expect(whole.count).toBeGreaterThan(3);
      for (let at = 1; at <= whole.count; at++) {
        await run(story, policy, { at, forGood }).catch((error: unknown) => {
          throw new Error(`I/O ${at} of ${whole.count}: ${String(error)}`, { cause: error });
        });
      }
    },
    60_000,
  );
});
