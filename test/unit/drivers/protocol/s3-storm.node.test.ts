// A storm of 503 while jobs read from and write to an object store: what each policy does then is what it does on any disk, the copy is
// equal in the end, and hardly a byte is moved twice.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BlockJob } from "../../../../src/job/core/block-job.ts";
import {
  backup,
  convert,
  createEngine,
  createImage,
  type Engine,
  mirror,
  type Node,
  openNode,
} from "../../../../src/node.ts";
import { contentOf } from "../../../support/content.ts";
import { TestStore } from "../../../support/s3-store.ts";

const MiB = 2 ** 20;
const BYTES = 48 * MiB;
const PATIENCE = { timeout: 120_000 };
const content = Buffer.from(contentOf(BYTES));
let store: TestStore;
let engine: Engine;
let folder: string;
/** Bytes of bodies that were refused. */
let refused: number;

beforeEach(async () => {
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "ID", AWS_SECRET_ACCESS_KEY: "key" });
  store = await TestStore.start();
  engine = createEngine();
  folder = mkdtempSync(join(tmpdir(), "bw-s3-storm-"));
  refused = 0;
});

afterEach(async () => {
  store.fault = () => undefined;
  await engine.close();
  await store.stop();
  rmSync(folder, { recursive: true });
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    Reflect.deleteProperty(process.env, name);
});

const inStore = (key: string, more: object = {}): object => ({
  ...{ driver: "s3", url: `s3://disks/${key}`, endpoint: store.endpoint },
  ...more,
});
const inFolder = (name: string): object => ({ driver: "file", filename: join(folder, name) });

const open = (spec: object): Promise<Node> => openNode({ driver: "raw", file: spec } as never, { engine });

/** Refuses requests for data, as many as are asked for; all: until it is over. */
function storm(count: number): void {
  let left = count;
  store.fault = ({ method, key, bytes }) => {
    const isData = method === "PUT" ? key.includes(".blockwright/") : method === "GET";
    if (!isData || left-- <= 0) return undefined;
    refused += bytes;
    return { status: 503, code: "SlowDown" };
  };
}

/** A disk with content, and an empty one, of which one is in the store, whose requests are tried again so often. */
async function disks(to: "from" | "to", retries = 0): Promise<{ source: Node; target: Node }> {
  const there = inStore("disk", { retries, readahead: 0 });
  if (to === "from") {
    store.put("disks/disk", content);
    await createImage({ driver: "raw", file: inFolder("copy"), size: BYTES } as never, { engine });
    return { source: await open({ ...there, "read-only": true }), target: await open(inFolder("copy")) };
  }
  writeFileSync(join(folder, "disk"), content);
  await createImage({ driver: "raw", file: inStore("disk"), size: BYTES } as never, { engine });
  store.received = 0;
  return { source: await open(inFolder("disk")), target: await open(there) };
}

async function expectEqual(target: Node): Promise<void> {
  const moved = store.received - refused + store.sent;
  expect(moved).toBeGreaterThanOrEqual(BYTES);
  expect(moved).toBeLessThan(1.1 * BYTES);
  const copy = await target.read(0, BYTES);
  expect(Buffer.compare(copy, content)).toBe(0);
}

const start = {
  mirror: (source: Node, target: Node, policy: "stop" | "ignore") =>
    mirror(source, target, { sync: "full", onSourceError: policy, onTargetError: policy }),
  backup: (source: Node, target: Node, policy: "stop" | "ignore") =>
    backup(source, target, { sync: "full", onSourceError: policy, onTargetError: policy }),
};

async function ended(job: BlockJob): Promise<void> {
  if (job.type === "mirror") {
    while (!job.isReady) await setTimeout(5);
    await job.complete();
  }
  await job.done;
}

describe.each(["mirror", "backup"] as const)("%s", (kind) => {
  it.each(["from", "to"] as const)("%s a store: stop pauses at each storm", PATIENCE, async (to) => {
    const { source, target } = await disks(to);
    storm(1);
    const job = (await start[kind](source, target, "stop")) as BlockJob;
    let isOver = false;
    const end = ended(job).finally(() => (isOver = true));
    let pauses = 0;
    while (!isOver) {
      await setTimeout(5);
      if (job.status !== "paused") continue;
      expect(job.ioStatus).toBe("failed");
      pauses += 1;
      if (pauses < 3) storm(1);
      job.resume();
    }
    await end;
    expect(pauses).toBeGreaterThanOrEqual(3);
    await expectEqual(target);
  });

  it.each(["from", "to"] as const)("%s a store: ignore goes on until it is over", PATIENCE, async (to) => {
    const { source, target } = await disks(to);
    storm(4);
    await ended(await start[kind](source, target, "ignore"));
    await expectEqual(target);
  });
});

it.each(["from", "to"] as const)("convert %s a store has its driver try again", PATIENCE, async (to) => {
  const { source, target } = await disks(to, 8);
  storm(4);
  await convert(source, target);
  await target.flush();
  await expectEqual(target);
});
