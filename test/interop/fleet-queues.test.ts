// `blockwright fleet` over real servers of queues, with workers that are killed, stopped and continued, and a queue that forgets
// everything or is restarted: every image is equal in the end, and visible once. What is copied is held against qemu-img.
import { existsSync, rmSync } from "node:fs";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { setTimeout } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkFaults, must } from "../support/tools.ts";
import { ended, FleetFolder, killed, type Status, type TestJob } from "./support/fleet.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
let folder: FleetFolder;

beforeEach(() => {
  folder = new FleetFolder();
});

afterEach(async () => {
  await folder[Symbol.asyncDispose]();
});

interface Server {
  readonly url: string;
  /** Forgets everything, or is restarted: what its kind can do. */
  readonly shake: () => void;
}

const servers: Readonly<Record<string, () => Promise<Server>>> = {
  Redis: async () => {
    const { url, forget } = await folder.redis();
    return { url, shake: forget };
  },
  PostgreSQL: () => {
    const { url, restart } = folder.postgres();
    return Promise.resolve({ url, shake: restart });
  },
};

function job(id: string, dataMiB: number, more: Partial<TestJob> = {}): TestJob {
  const source = folder.image(`${id}.raw`, dataMiB);
  const options = { sourceFormat: "raw", targetFormat: "qcow2", speedBytesPerSecond: 24 * MiB };
  return { id, kind: "convert", source, target: folder.in(`${id}.qcow2`), options, ...more };
}

async function areEqual(jobs: readonly TestJob[]): Promise<void> {
  for (const { id, source } of jobs) {
    expect(await checkFaults(folder.in(`${id}.qcow2`), "refused")).toBeUndefined();
    await must("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, folder.in(`${id}.qcow2`));
  }
  expect(folder.leftovers()).toEqual([]);
}

describe.each(Object.keys(servers))("over %s", (name) => {
  let url: string;
  let shake: () => void;

  const status = async (...words: string[]): Promise<Status> => {
    const { stdout, stderr } = await folder.fleet("status", "--queue", url, "--json", ...words);
    expect(stdout, stderr).toMatch(/^\{/);
    return JSON.parse(stdout) as Status;
  };
  const submit = async (list: string): Promise<unknown> => {
    const { status: code, stdout, stderr } = await folder.fleet("submit", list, "--queue", url, "--json");
    expect(code, stderr).toBe(0);
    return JSON.parse(stdout);
  };
  const worker = (...words: string[]) =>
    folder.start("worker", "--queue", url, "--lease", "1000", "--workers", "1", ...words);

  beforeEach(async () => {
    ({ url, shake } = await servers[name]!());
  });

  // The adapter is one: what its engine does not decide is held over one of them where there is no time for both.
  const isBrief = name !== "Redis" && process.env["BLOCKWRIGHT_TEST_BUDGET"] !== "all";

  it.skipIf(isBrief)("jobs are submitted once, told, cancelled, held back, retried", async () => {
    const jobs = [job("a", 1), job("b", 2), job("last", 1, { priority: -1 })];
    const poison = job("poison", 1, { source: folder.in("none.raw") });
    const list = folder.list([...jobs, poison]);
    expect(await submit(list)).toEqual({ added: 4, known: 0 });
    expect(await submit(list)).toEqual({ added: 0, known: 4 });
    expect(await status()).toEqual({ queued: 4, running: 0, done: 0, failed: 0 });
    expect(JSON.parse((await folder.fleet("cancel", "b", "--queue", url, "--json")).stdout)).toEqual({
      cancelled: 1,
    });
    expect((await folder.fleet("cancel", "nobody", "--queue", url)).status).toBe(2);
    // Held back: a worker finds nothing to do.
    await folder.fleet("drain", "--queue", url);
    const idle = worker("--idle-exit");
    await ended(idle);
    for (const said of [folder.said(idle), (await folder.fleet("status", "--queue", url)).stderr])
      expect(said).toBe(
        "blockwright fleet: the queue is drained: it hands out no jobs until 'fleet drain --resume'\n",
      );
    expect(await status()).toEqual({ queued: 3, running: 0, done: 0, failed: 0 });
    await folder.fleet("drain", "--resume", "--queue", url);
    await ended(worker("--idle-exit"));
    const { jobs: rows, ...counts } = await status("--jobs");
    expect(counts).toEqual({ queued: 0, running: 0, done: 2, failed: 1 });
    expect(rows.map(({ id, state, attempts, bytes }) => [id, state, attempts, bytes])).toEqual([
      ["a", "done", 1, MiB],
      ["last", "done", 1, MiB],
      ["poison", "failed", 1, 0],
    ]);
    expect(rows[2]?.lastError).toContain("No such file or directory");
    expect((await folder.fleet("status", "--queue", url)).status).toBe(1);
    expect((await folder.fleet("status", "--queue", url, "--metrics")).stdout).toContain(
      '{state="failed"} 1\n',
    );
    await must("cp", folder.in("a.raw"), folder.in("none.raw"));
    expect(JSON.parse((await folder.fleet("retry", "--failed", "--queue", url, "--json")).stdout)).toEqual({
      retried: 1,
    });
    expect(await submit(list)).toEqual({ added: 1, known: 3 });
    const waited = folder.fleet("submit", list, "--wait", "--queue", url, "--json");
    await ended(worker("--idle-exit"));
    const { status: code, stdout } = await waited;
    expect({ code, stdout: JSON.parse(stdout) as unknown }).toEqual({
      code: 0,
      stdout: { queued: 0, running: 0, done: 4, failed: 0 },
    });
    await areEqual([...jobs, { ...poison, source: folder.in("none.raw") }]);
    // What is done is looked at again by its id only: one that has gone is made once more.
    rmSync(folder.in("a.qcow2"));
    expect((await folder.fleet("retry", "--failed", "--queue", url)).stdout).toBe("0 retried\n");
    expect((await folder.fleet("retry", "a", "b", "--queue", url)).stdout).toBe("2 retried\n");
    await ended(worker("--idle-exit"));
    expect(await status()).toEqual({ queued: 0, running: 0, done: 4, failed: 0 });
    await areEqual(jobs);
  });

  it("workers are killed and stopped, the queue is shaken, and all is copied, once and whole", async () => {
    const jobs = [job("a", 32), job("b", 36), job("c", 1), job("d", 2)];
    const list = folder.list(jobs);
    await submit(list);
    // Killed in the middle of its first disk.
    const first = worker();
    await until("the middle of a", () => folder.position("a.qcow2") >= 6 * MiB);
    await killed(first);
    const second = worker();
    await until("a goes on", () => folder.position("a.qcow2") >= 14 * MiB);
    // Stopped: another one takes the disk over, and what comes of the stopped one later changes nothing.
    second.kill("SIGSTOP");
    const third = worker();
    await until("a is there", () => existsSync(folder.in("a.qcow2")));
    shake();
    await submit(list);
    second.kill("SIGCONT");
    await until("all are done", async () => (await status()).done === jobs.length);
    for (const one of [second, third]) {
      one.kill("SIGTERM");
      await ended(one);
    }
    await areEqual(jobs);
    const { jobs: rows } = await status("--jobs");
    const moved = rows.reduce((sum, { bytes }) => sum + bytes, 0);
    // Once anew what the stopped one had, which may write yet: the rest is gone on with.
    expect(moved).toBeLessThanOrEqual(1.1 * (32 + 36 + 3) * MiB + 32 * MiB);
  });

  it.skipIf(isBrief)("one that runs is cancelled, and leaves nothing", async () => {
    const slow = { sourceFormat: "raw", targetFormat: "qcow2", speedBytesPerSecond: 2 * MiB };
    await submit(folder.list([job("a", 64, { options: slow })]));
    const one = worker();
    await until("the middle of a", () => folder.position("a.qcow2") >= 4 * MiB);
    await folder.fleet("cancel", "--queue", url);
    await until("it failed", async () => (await status()).failed === 1);
    const { jobs: rows } = await status("--jobs");
    expect(rows[0]).toMatchObject({ state: "failed", lastError: "cancelled" });
    expect(existsSync(folder.in("a.qcow2"))).toBe(false);
    expect(folder.leftovers()).toEqual([]);
    one.kill("SIGTERM");
    await ended(one);
    expect(one.exitCode).toBe(143);
  });
});

it("workers and who waits outlive a Redis that comes later than they, and is away for a while", async () => {
  const { url, stop, start } = await folder.redis();
  await stop();
  const queue = ["--queue", url];
  const worker = folder.start("worker", ...queue);
  await until("it is told", () => folder.said(worker).includes("the queue does not answer"));
  await start();
  const list = (name: string): string => folder.list([job(name, 1)], `${name}.json`);
  expect((await folder.fleet("submit", list("a"), "--wait", ...queue)).stderr).toBe("");
  // One that is not handed out is waited for, over a time in which a client gives its server up who has not seen it before.
  await folder.fleet("drain", ...queue);
  const waiting = folder.start("submit", list("b"), "--wait", ...queue);
  const status = async (): Promise<Status> =>
    JSON.parse((await folder.fleet("status", ...queue, "--json")).stdout) as Status;
  await until("it is submitted", async () => (await status()).queued === 1);
  await stop();
  await until("it is told", () => folder.said(waiting).includes("the queue does not answer"));
  await setTimeout(3000);
  await start();
  await folder.fleet("drain", "--resume", ...queue);
  const idle = folder.start("worker", "--idle-exit", ...queue);
  for (const child of [waiting, idle]) {
    await ended(child);
    expect(child.exitCode).toBe(0);
  }
  expect(await status()).toEqual({ queued: 0, running: 0, done: 2, failed: 0 });
  await areEqual(["a", "b"].map((name) => ({ id: name, kind: "convert", source: folder.in(`${name}.raw`) })));
  // A worker whose server is away ends when it is told to.
  await stop();
  worker.kill("SIGTERM");
  await ended(worker);
  expect(worker.exitCode).toBe(143);
});

it("a worker does nothing of what it does not know: jobs that others, or another version, put into the queue", async () => {
  const { url } = await folder.redis();
  const client = new Redis(folder.in("redis.sock"), { maxRetriesPerRequest: null });
  const queue = new Queue("blockwright", { connection: client });
  const { source, target } = job("a", 1);
  const known = { id: "a", kind: "convert", source, target, options: {}, priority: 0 };
  const wrong = {
    later: { kind: "shrink" },
    odd: { options: { create: { size: 1 } } },
    none: { source: undefined },
  };
  for (const [id, more] of Object.entries(wrong))
    await queue.add("x", { job: { ...known, id, target: folder.in(id), ...more }, spec: id });
  await queue.add("x", { job: known, spec: "a" });
  await queue.close();
  client.disconnect();
  const flags = ["--queue", url];
  await ended(folder.start("worker", "--idle-exit", ...flags));
  const { jobs } = JSON.parse((await folder.fleet("status", "--jobs", "--json", ...flags)).stdout) as Status;
  expect(jobs.map(({ id, state }) => `${id} ${state}`)).toEqual([
    "a done",
    "later failed",
    "none failed",
    "odd failed",
  ]);
  expect(jobs[1]!.lastError).toBe(
    "the queue holds no such job: job 'later': 'kind' must be one of convert, backup, verify, mirror",
  );
  for (const id of Object.keys(wrong)) expect(existsSync(folder.in(id))).toBe(false);
});
