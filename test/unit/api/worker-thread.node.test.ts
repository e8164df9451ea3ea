// The engine in a thread of Node, behind a port of worker_threads: what is built serves, and a killed thread rejects all.
import { Worker } from "node:worker_threads";
import { afterEach, expect, it } from "vitest";
import { connectEngine } from "../../../src/node.ts";
import { MiB, pattern, same } from "../support/graph.ts";

const library = new URL("../../../build/node.js", import.meta.url).href;
const script = `
  import { workerData } from "node:worker_threads";
  import { createEngine, serveEngine } from ${JSON.stringify(library)};
  await serveEngine(workerData.port, createEngine());
`;
const threads: Worker[] = [];

function thread(): { port: MessagePort; worker: Worker } {
  const { port1, port2 } = new MessageChannel();
  const url = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
  const worker = new Worker(url, { workerData: { port: port2 }, transferList: [port2 as never] });
  threads.push(worker);
  return { port: port1, worker };
}

afterEach(async () => {
  for (const worker of threads.splice(0)) await worker.terminate();
});

it.each([false, true])("serves disks and QMP from a thread (shared memory: %s)", async (shared) => {
  const { port, worker } = thread();
  const engine = await connectEngine(port);
  const disk = await engine.open({ driver: "memory", size: 4 * MiB }, { shared });
  const data = pattern(2 * MiB, 4);
  await Promise.all([disk.write(512, data), disk.flush()]);
  expect(same(await disk.read(512, data.length), data)).toBe(true);
  expect((await engine.qmp.execute("query-named-block-nodes")).length).toBe(1);
  const exited = new Promise((resolve) => worker.once("exit", resolve));
  await engine.close();
  expect(await exited).toBe(0);
});

it("rejects everything that is pending when the thread is killed", async () => {
  const { port, worker } = thread();
  const engine = await connectEngine(port);
  const { qmp } = engine;
  await qmp.execute("object-add", {
    "qom-type": "throttle-group",
    id: "slow",
    limits: { "bps-total": 1000 },
  });
  const file = { driver: "memory", size: 4 * MiB } as const;
  const disk = await engine.open({ driver: "throttle", "throttle-group": "slow", file });
  await disk.read(0, MiB / 4);
  const read = disk.read(0, MiB).catch((error: unknown) => error);
  await worker.terminate();
  expect(await read).toMatchObject({ code: "EIO", message: "the worker has gone" });
  await expect(qmp.execute("query-status")).rejects.toThrow();
});
