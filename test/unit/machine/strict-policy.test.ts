// strictErrorPolicy with real devices: jobs that may stop are allowed only over a disk whose own policy stops the guest.
import { describe, expect, test } from "vitest";
import { startBackup } from "../../../src/job/backup/backup.ts";
import { startCommit } from "../../../src/job/commit/commit.ts";
import type { OnError } from "../../../src/job/core/error-policy.ts";
import type { Job } from "../../../src/job/core/job.ts";
import { startMirror } from "../../../src/job/mirror/mirror.ts";
import { mirrorTop } from "../../../src/job/mirror/top.ts";
import { commitTop } from "../../../src/job/commit/top.ts";
import { startStream } from "../../../src/job/stream/stream.ts";
import { copyOnRead } from "../../../src/drivers/filter/copy-on-read.ts";
import { cow, makeImage } from "../job/cow-format.ts";
import { MiB } from "../support/graph.ts";
import { TestMachine } from "../support/guest.ts";

type Start = (bench: TestMachine, policy: OnError) => Promise<Job>;
const jobs: Record<string, { start: Start; words: string }> = {
  stream: {
    start: async ({ test: { graph } }, policy) =>
      startStream(graph, { "job-id": "j", device: "top", "on-error": policy }),
    words: "Invalid parameter 'on-error'",
  },
  commit: {
    start: async ({ test: { graph } }, policy) =>
      startCommit(graph, {
        "job-id": "j",
        device: "top",
        "top-node": "mid",
        "base-node": "base",
        "on-error": policy,
      }),
    words: "Invalid parameter combination",
  },
  mirror: {
    start: ({ test: { graph } }, policy) =>
      startMirror(graph, {
        "job-id": "j",
        device: "top",
        target: "dst",
        sync: "full",
        "on-source-error": policy,
      }),
    words: "Invalid parameter 'on-source-error'",
  },
  backup: {
    start: ({ test: { graph } }, policy) =>
      startBackup(graph, {
        "job-id": "j",
        device: "top",
        target: "dst",
        sync: "full",
        "on-source-error": policy,
      }),
    words: "Invalid parameter 'on-source-error'",
  },
};

async function bench(strict: boolean, policy?: { rerror: OnError; werror: OnError }): Promise<TestMachine> {
  const made = new TestMachine({ strict });
  made.test.graph.register(cow, mirrorTop, commitTop, copyOnRead);
  for (const [name, backing] of [
    ["base", null],
    ["mid", "base"],
    ["top", "mid"],
  ] as const) {
    makeImage(name, MiB);
    await made.test.graph.add({ driver: "cow", "node-name": name, backing });
  }
  await made.test.disk("dst", MiB);
  if (policy) await made.guest("d0", { node: "top", ...policy });
  return made;
}

const cases = Object.entries(jobs).flatMap(([kind, job]) =>
  (["stop", "enospc"] as const).map((policy) => ({ kind, policy, ...job })),
);

describe.each(cases)("$kind with $policy", ({ start, policy, words }) => {
  test("is refused without a device, and leaves nothing behind", async () => {
    const made = await bench(true);
    const before = made.test.graph.nodes.map((node) => node.name);
    await expect(start(made, policy)).rejects.toThrow(words);
    expect(made.test.graph.nodes.map((node) => node.name)).toEqual(before);
    expect(made.take().filter((event) => event !== "created" && event !== "null")).toEqual([]);
  });

  test.each([
    ["report", "enospc"],
    ["stop", "report"],
    ["ignore", "stop"],
    ["stop", "ignore"],
  ] as const)("is refused over rerror=%s, werror=%s", async (rerror, werror) => {
    const made = await bench(true, { rerror, werror });
    await expect(start(made, policy)).rejects.toThrow(words);
  });

  test.each(["stop", "enospc"] as const)("is allowed over rerror=stop, werror=%s", async (werror) => {
    const made = await bench(true, { rerror: "stop", werror });
    const job = await start(made, policy);
    await made.settle(job.cancel());
    await made.settle(job.done.catch(() => undefined));
  });

  test("is accepted by default, as in 7.2", async () => {
    const made = await bench(false);
    const job = await start(made, policy);
    await made.settle(job.cancel());
    await made.settle(job.done.catch(() => undefined));
  });
});

test.each(Object.entries(jobs))(
  "%s with report, ignore or auto needs no device",
  async (_kind, { start }) => {
    for (const policy of ["report", "ignore", "auto"] as const) {
      const made = await bench(true);
      const job = await start(made, policy);
      await made.settle(job.cancel());
      await made.settle(job.done.catch(() => undefined));
    }
  },
);
