// A network that goes and comes back while a stream fills an overlay and a guest works on it, both let go on by probes: all
// requests end, and the content is right. Real sockets, real time; a seed draws the faults and the guest's requests.
import { afterEach, expect, test } from "vitest";
import { autoCont } from "../../../src/api/auto-resume.ts";
import { stream } from "../../../src/api/jobs.ts";
import { type Node, createEngine, createImage, openNode } from "../../../src/node.ts";
import { GuestDevice } from "../../../src/machine/device.ts";
import { contentOf } from "../../support/content.ts";
import { type Fault, ImageServer } from "../../support/image-server.ts";
import { randomness } from "../../support/random.ts";

const KiB = 1024;
const SIZE = 2048 * KiB;
const PROBE_MS = 3;
const broken: readonly Fault[] = ["refuse", "drop", "short-body", "status-500", "wrong-range"];

/** Ends what a test has left running when it failed. */
const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const clean of cleanups.splice(0).toReversed()) await clean();
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Breaks the network until `noticed`, breaks and mends it until `over` aborts, and then leaves it mended. */
async function breakNetwork(
  server: ImageServer,
  draw: (limit: number) => number,
  { noticed, over }: { noticed: () => boolean; over: AbortSignal },
) {
  server.fault = "refuse";
  while (!noticed() && !over.aborted) await pause(5);
  while (!over.aborted) {
    const isDead = draw(3) === 0;
    if (isDead) await server.stop();
    else server.fault = broken[draw(broken.length)]!;
    await pause(1 + draw(30));
    if (isDead) await server.listen();
    server.fault = "none";
    await pause(1 + draw(20));
  }
}

/** Reads that check what comes, and writes, of which `model` keeps the outcome. */
async function runGuest(device: GuestDevice, model: Uint8Array, draw: (limit: number) => number) {
  for (let left = 60; left > 0; left--) {
    const bytes = 512 * (1 + draw(64));
    const offset = 512 * draw((SIZE - bytes) / 512 + 1);
    if (draw(3) === 0) {
      const data = new Uint8Array(bytes).fill(left);
      model.set(data, offset);
      await device.write(offset, data);
    } else {
      const data = new Uint8Array(bytes);
      await device.read(offset, data);
      if (Buffer.compare(data, model.subarray(offset, offset + bytes)) !== 0)
        throw new Error(`the guest read something wrong at ${offset}`);
    }
    if (draw(8) === 0) await pause(draw(10));
  }
}

/** An overlay in memory over the server's disk. */
async function openOverlay(url: string): Promise<Node> {
  const engine = createEngine();
  cleanups.push(() => engine.close());
  const net = { size: SIZE, "cluster-size": 16 * KiB, "cache-size": 64 * KiB, readahead: 32 * KiB };
  const patience = { timeout: 1, deadline: 2, retries: 0, connections: 2 };
  const base = { driver: "http", "node-name": "base", url, ...net, ...patience } as const;
  await openNode({ driver: "memory", "node-name": "file", size: 0 }, { engine });
  await openNode({ ...base, "read-only": true }, { engine });
  await createImage({ driver: "qcow2", file: "file", size: SIZE, "cluster-size": 16 * KiB }, { engine });
  return openNode({ driver: "qcow2", "node-name": "disk", file: "file", backing: "base" }, { engine });
}

test.each([0, 1, 2, 3])("everything ends, seed %d", async (seed) => {
  const draw = randomness(seed);
  const model = contentOf(SIZE, seed + 1);
  const server = await ImageServer.start(model.slice());
  cleanups.push(() => server.stop());
  const disk = await openOverlay(server.url);
  const { engine } = disk;
  const { machine } = engine;
  const device = await GuestDevice.plug({
    machine,
    name: "hda",
    node: disk.blockNode,
    rerror: "stop",
    werror: "stop",
    writeCache: draw(2) === 0,
    deadlineMs: draw(2) * 20,
  });
  const told = new Set<string>();
  engine.graph.events.subscribe(({ event }) => told.add(event));
  const noticed = (): boolean => told.has("BLOCK_JOB_ERROR") && told.has("STOP");
  const over = new AbortController();
  cleanups.push(() => Promise.resolve(over.abort()));
  autoCont(engine, { probeMs: PROBE_MS + draw(5), signal: over.signal });
  const calm = new AbortController();
  const network = breakNetwork(server, draw, { noticed, over: calm.signal });
  cleanups.push(async () => (calm.abort(), network));
  const speedBytesPerSecond = draw(2) * 8 * 1024 * KiB;
  const job = await stream(disk, { onError: "stop", speedBytesPerSecond, autoResume: { probeMs: PROBE_MS } });
  const guest = runGuest(device, model, randomness(seed + 1000));
  const timer = setTimeout(() => calm.abort(), 800);
  await Promise.all([job.done, guest]);
  clearTimeout(timer);
  calm.abort();
  await network;
  await device.unplug();
  const found = new Uint8Array(SIZE);
  await disk.read(0, found);
  expect(Buffer.compare(found, model)).toBe(0);
  expect(noticed()).toBe(true);
});
