// The http driver at the end of a slow link, in virtual time: only silence is a failure, what came is kept, the guest goes
// before the job, and a program that slept goes on.
import { afterEach, expect, test } from "vitest";
import { makeEngine } from "../../../../src/api/engine.ts";
import { openGuestDiskIn } from "../../../../src/api/guest-disk/open.ts";
import { openNodeIn } from "../../../../src/api/open.ts";
import type { Node } from "../../../../src/api/node.ts";
import type { Host } from "../../../../src/base/host.ts";
import { portableDrivers } from "../../../../src/drivers/index.ts";
import { opfs } from "../../../../src/drivers/protocol/opfs/index.ts";
import type { Engine } from "../../../../src/machine/engine.ts";
import { KiB, MiB, pattern, same } from "../../support/graph.ts";
import { ModelStorage } from "../../support/private-directory.ts";
import { SlowLink } from "../../support/slow-link.ts";
import { VirtualHost } from "../../support/virtual-host.ts";

const CLUSTER = 64 * KiB;
const url = "http://images.test/disk.img";
const slow = { bytesPerSecond: 50_000, latencyMs: 400 };

interface World {
  host: VirtualHost;
  link: SlowLink;
  engine: Engine;
  storage: ModelStorage;
}

const engines: [VirtualHost, Engine][] = [];

function world(size: number, link = slow): World {
  const host = new VirtualHost();
  const http = new SlowLink(pattern(size, 3), host.clock, link);
  const storage = new ModelStorage();
  const all: Host = Object.assign(Object.create(host) as Host, { http, privateStorage: storage });
  const engine = makeEngine({ host: all, drivers: [...portableDrivers, opfs] }, { arenaBytes: 8 * MiB });
  engines.push([host, engine]);
  return { host, link: http, engine, storage };
}

afterEach(async () => {
  for (const [host, engine] of engines.splice(0)) await host.clock.settle(engine.close());
});

/** Opens the disk without asking for its size. */
function open({ host, engine, link }: World, more: object = {}): Promise<Node> {
  const spec = { driver: "http", url, size: link.content.byteLength, "read-only": true, ...more } as const;
  return host.clock.settle(openNodeIn(engine, spec));
}

test("a link of 50 KB/s with 400 ms fills 16 MiB without loss, while a guest reads", async () => {
  const size = 16 * MiB;
  const { host, link, engine } = world(size);
  const { clock } = host;
  const opened = await clock.settle(openGuestDiskIn(engine, { url, size, name: "guest" }));
  const causes: unknown[] = [];
  opened.watch(({ cause }) => {
    if (cause) causes.push(cause);
  });
  let filled = false;
  opened.watch(({ fill }) => {
    filled ||= fill === "done";
  });
  const waits: number[] = [];
  for (let at = 15 * MiB; at < 15 * MiB + 8 * CLUSTER; at += CLUSTER) {
    const begun = clock.nowMs();
    const got = await clock.settle(Promise.resolve(opened.disk.read(at, 4 * KiB)));
    expect(same(got, link.content.subarray(at, at + 4 * KiB))).toBe(true);
    waits.push(clock.nowMs() - begun);
  }
  // Alone a cluster takes 1.7 s; beside the filling it has its share of the link, and never waits for a large piece of it.
  expect(Math.max(...waits)).toBeLessThan(8000);
  while (!filled) await clock.step();
  expect(causes).toEqual([]);
  expect(link.sentBytes).toBeLessThan(1.1 * size);
  expect(clock.nowMs()).toBeLessThan(1.25 * ((1000 * size) / slow.bytesPerSecond));
  const all = await clock.settle(Promise.resolve(opened.disk.read(0, size)));
  expect(same(all, link.content)).toBe(true);
});

test("what came before a connection broke is kept, and only the rest asked for", async () => {
  const made = world(MiB);
  const { host, link } = made;
  const disk = await open(made);
  link.breaks.push(5 * CLUSTER + 100, 2 * CLUSTER + 100);
  expect(same(await host.clock.settle(disk.read(0, MiB)), link.content)).toBe(true);
  expect(link.asked.map(({ start, end }) => [start / CLUSTER, end / CLUSTER])).toEqual([
    [0, 16],
    [5, 16],
    [7, 16],
  ]);
});

test("silence is a failure, at any speed", async () => {
  const made = world(MiB);
  const { host, link } = made;
  const disk = await open(made, { retries: 0 });
  link.bytesPerSecond = 100; // A chunk each 41 s.
  await expect(host.clock.settle(disk.read(0, CLUSTER))).rejects.toMatchObject({
    code: "EIO",
    message: /timed out/,
  });
  expect(host.clock.nowMs()).toBeLessThan(6000);
});

test("at a program's end it is given up once it has been silent so long, and not while anything comes", async () => {
  const made = world(MiB, { bytesPerSecond: 10 * MiB, latencyMs: 4000 });
  const { host, engine } = made;
  const disk = await open(made, { timeout: 600, deadline: 600 });
  const { driver } = engine.graph.node(disk.name);
  const read = (askedAfterMs: number): Promise<Uint8Array> => {
    host.clock.timer(askedAfterMs, () => driver.giveUp?.({ shortMs: 3000, longMs: 30_000 }));
    return host.clock.settle(Promise.resolve(disk.read(0, 2 * CLUSTER)));
  };
  expect((await read(2900)).byteLength).toBe(2 * CLUSTER);
  await disk.close();
  const again = await open(made, { timeout: 600, deadline: 600, "node-name": "again" });
  host.clock.timer(3100, () => engine.graph.node("again").driver.giveUp?.({ shortMs: 3000, longMs: 30_000 }));
  await expect(host.clock.settle(again.read(0, CLUSTER))).rejects.toMatchObject({ code: "ECANCELED" });
});

test("a server without ranges is asked once", async () => {
  const made = world(MiB, { bytesPerSecond: 10 * MiB, latencyMs: 1 });
  const { host, link } = made;
  link.ignoresRanges = true;
  const disk = await open(made);
  await expect(host.clock.settle(disk.read(0, 512))).rejects.toThrow("the server ignores ranges");
  expect(link.asked.length).toBe(1);
  expect(link.sentBytes).toBeLessThan(2 * CLUSTER);
});

test("a program that slept in the middle of a request goes on", async () => {
  const made = world(MiB);
  const { host, link } = made;
  const disk = await open(made, { retries: 0 });
  const reading = disk.read(0, 2 * CLUSTER);
  for (let i = 0; i < 8; i++) await host.clock.step();
  host.clock.sleep(60_000);
  expect(same(await host.clock.settle(reading), link.content.subarray(0, 2 * CLUSTER))).toBe(true);
  expect(link.asked.length).toBe(1);
});
