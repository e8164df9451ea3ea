// Limits on transfers over all workers of a queue, which its server counts: all places or none, none held by the dead, none lost by a
// server that forgets.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openQueue } from "../../src/cli/fleet/queues.ts";
import type { FleetQueue } from "../../src/fleet/queue.ts";
import type { TransferLimits, TransferPlaces } from "../../src/fleet/slots.ts";
import { must } from "../support/tools.ts";
import { ended, FleetFolder, type Status } from "./support/fleet.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
let folder: FleetFolder;
let url: string;
let shake: () => void;
const queues: FleetQueue[] = [];

const servers: Readonly<Record<string, () => Promise<void>>> = {
  Redis: async () => {
    ({ url, forget: shake } = await folder.redis());
  },
  PostgreSQL: () => {
    ({ url, restart: shake } = folder.postgres());
    return Promise.resolve();
  },
};

/** The places of a worker of its own. */
async function places(limits: TransferLimits, leaseMs = 3600_000): Promise<TransferPlaces> {
  const retries = { attempts: 1, backoffMs: 1 };
  const queue = await openQueue(url, { retries, leaseMs, exitsIdle: true });
  queues.push(queue);
  // The tables of PostgreSQL are there once it has been asked for something.
  await queue.counts();
  return queue.places(limits);
}

const keys = (store: string, source = "s"): { host: string; store: string; source: string } => ({
  host: "h",
  store,
  source,
});

/** Whether there are places now. */
async function hasRoom(one: TransferPlaces, store: string): Promise<boolean> {
  const abort = new AbortController();
  const took = one.take(keys(store), abort.signal).then(
    (give) => {
      give();
      return true;
    },
    () => false,
  );
  // What is asked for after it is answered after it, so that this was asked once at least.
  (await one.take(keys(`beside ${store}`, "beside")))();
  abort.abort(new Error("no more"));
  return took;
}

beforeEach(() => {
  folder = new FleetFolder();
});

afterEach(async () => {
  await Promise.all(queues.splice(0).map((queue) => queue.close()));
  await folder[Symbol.asyncDispose]();
});

describe.each(Object.keys(servers))("limits over %s", (name) => {
  beforeEach(() => servers[name]!());

  it("are those of all workers: all places or none", async () => {
    const one = await places({ store: 1 });
    const other = await places({ store: 1, source: 1 });
    const free = await places({});
    const give = await one.take(keys("x"));
    expect(await hasRoom(other, "x")).toBe(false);
    expect(await hasRoom(one, "x")).toBe(false);
    // Who has no limits is not held up, and takes nothing.
    (await free.take(keys("x")))();
    // The one that was held up by the store did not take the source's place.
    const give2 = await other.take(keys("y"));
    expect(await hasRoom(other, "z")).toBe(false);
    give2();
    const waiting = other.take(keys("x"));
    give();
    give();
    (await waiting)();
    await until("it is free again", () => hasRoom(one, "x"));
  });

  it("forget one that waits no longer", async () => {
    const one = await places({ host: 1 });
    const give = await one.take(keys("x"));
    const abort = new AbortController();
    const waiting = one.take(keys("y"), abort.signal);
    abort.abort(new Error("no more"));
    await expect(waiting).rejects.toThrow("no more");
    give();
    (await one.take(keys("y")))();
  });

  it("survive a server that is shaken, and holders who die", async () => {
    const one = await places({ store: 1 }, 1000);
    const give = await one.take(keys("x"));
    shake();
    const other = await places({ store: 1 });
    await until("it is said again who holds it", async () => !(await hasRoom(other, "x")));
    give();
    (await other.take(keys("x")))();
    // A worker that is killed while it transfers: what it has taken lapses.
    const list = folder.list([
      {
        id: "a",
        kind: "convert",
        source: folder.image("a.raw", 8),
        target: folder.in("a.qcow2"),
        options: { sourceFormat: "raw", targetFormat: "qcow2", speedBytesPerSecond: MiB },
      },
    ]);
    await folder.fleet("submit", list, "--queue", url);
    const worker = folder.start("worker", "--queue", url, "--lease", "1000", "--limit", "store=1");
    await until("it holds the place", async () => !(await hasRoom(other, folder.path)));
    worker.kill("SIGKILL");
    await ended(worker);
    (await other.take(keys(folder.path)))();
  });

  it("hold up workers whose store somebody else has, before the first byte", async () => {
    const one = await places({ store: 1 });
    const give = await one.take(keys(folder.path));
    const options = { sourceFormat: "raw", targetFormat: "raw" };
    const jobs = ["a", "b"].map((id) => ({
      id,
      kind: "convert" as const,
      source: folder.image(`${id}.raw`, 1),
      target: folder.in(`${id}.out`),
      options,
    }));
    await folder.fleet("submit", folder.list(jobs), "--queue", url);
    const workers = [1, 2].map(() =>
      folder.start("worker", "--queue", url, "--workers", "1", "--limit", "store=1", "--idle-exit"),
    );
    const status = async (): Promise<Status> =>
      JSON.parse((await folder.fleet("status", "--queue", url, "--json", "--jobs")).stdout) as Status;
    await until("both have one", async () => (await status()).running === 2);
    expect((await status()).jobs.map(({ bytes }) => bytes)).toEqual([0, 0]);
    give();
    await Promise.all(workers.map(ended));
    expect(await status()).toMatchObject({ done: 2, running: 0, queued: 0 });
    for (const { source, target } of jobs) await must("cmp", source, target);
  });
});
