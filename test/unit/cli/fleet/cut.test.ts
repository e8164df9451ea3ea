// How a job's disk is cut, and what can't be.
import { expect, it } from "vitest";
import { storageOfName } from "../../../../src/block/model/options.ts";
import { cutOf } from "../../../../src/cli/fleet/cut.ts";
import { s3 } from "../../../../src/drivers/protocol/http/s3/index.ts";
import type { FleetJob } from "../../../../src/fleet/jobs.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;

async function cut(
  target: string,
  length: number,
  options: FleetJob["options"] = {},
): Promise<ReturnType<typeof cutOf>> {
  const job: FleetJob = { id: "a", kind: "convert", source: "s", target, options, priority: 0 };
  const place = target.startsWith("s3:") ? storageOfName({ drivers: [s3] }, "s3", target) : undefined;
  const chunks = place && (await s3.store?.chunks?.(place));
  return cutOf(job, { length, chunks, isPlain: options.targetFormat !== "qcow2" });
}

it("a raw file is cut from 128 GiB on, and where it is told", async () => {
  expect((await cut("t", 127 * GiB)).partBytes).toBe(127 * GiB);
  expect((await cut("t", 128 * GiB)).partBytes).toBe(16 * GiB);
  expect((await cut("t", 64 * MiB, { shards: 4 })).partBytes).toBe(16 * MiB);
  expect((await cut("t", 128 * GiB, { shards: 1 })).partBytes).toBe(128 * GiB);
  expect((await cut("t", 128 * GiB, { targetFormat: "qcow2" })).partBytes).toBe(128 * GiB);
  await expect(cut("t", GiB, { targetFormat: "qcow2", shards: 2 })).rejects.toThrow("only a raw disk");
  await expect(cut("s3://b/k", GiB, { targetFormat: "qcow2", shards: 2 })).rejects.toThrow("only a raw disk");
});

it("a disk in a store is cut where its chunks end, or the pages of their index", async () => {
  expect((await cut("s3://b/k", 64 * MiB, { shards: 5 })).partBytes).toBe(16 * MiB);
  expect((await cut("s3://b/k?chunk-size=16M", 64 * MiB, { shardBytes: 1 })).partBytes).toBe(16 * MiB);
  expect((await cut("s3://b/k?form=chunks", 8 * GiB, { shards: 5 })).partBytes).toBe(2 * GiB);
  expect((await cut("s3://b/k?form=chunks&chunk-size=64K", GiB, { shardBytes: 1 })).partBytes).toBe(64 * MiB);
  expect((await cut("s3://b/k?form=chunks", 64 * MiB, { shards: 4 })).partBytes).toBe(64 * MiB);
});

it("a disk has so many shards and no more", async () => {
  expect((await cut("t", 8 * GiB, { shards: 4096 })).partBytes).toBe(2 * MiB);
  await expect(cut("t", 8 * GiB + 512, { shardBytes: 1 })).rejects.toThrow("4096 shards at most");
  expect((await cut("t", 4 * MiB, { shards: 1e9 })).partBytes).toBe(2 * MiB);
});

it("an object of more chunks than a store joins is refused before anything is copied", async () => {
  const most = 10_000 * 8 * MiB;
  expect((await cut("s3://b/k", most)).partBytes).toBe(most);
  await expect(cut("s3://b/k", most + 1)).rejects.toThrow(`'?chunk-size=${16 * MiB}'`);
  await expect(cut("s3://b/k", 2 ** 40)).rejects.toThrow(`'?chunk-size=${128 * MiB}'`);
  expect((await cut(`s3://b/k?chunk-size=${128 * MiB}`, 2 ** 40)).partBytes).toBe(16 * GiB);
  expect((await cut("s3://b/k?chunk-size=128M", 2 ** 40)).measure.unit).toBe(128 * MiB);
  expect((await cut("s3://b/k?form=chunks", 2 ** 40)).partBytes).toBe(16 * GiB);
  expect((await cut("s3://b/k", 2 ** 40, { targetFormat: "qcow2" })).partBytes).toBe(2 ** 40);
});
