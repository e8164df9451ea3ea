// A guest's boot at the end of slow links, in virtual time, beside v86's own loader with the chunk size that suits it best: what
// openGuestDisk() costs when nobody tunes it.
import { afterEach, expect, test } from "vitest";
import { makeEngine } from "../../../../src/api/engine.ts";
import { openGuestDiskIn } from "../../../../src/api/guest-disk/open.ts";
import type { Clock, Host } from "../../../../src/base/host.ts";
import { portableDrivers } from "../../../../src/drivers/index.ts";
import { opfs } from "../../../../src/drivers/protocol/opfs/index.ts";
import type { Engine } from "../../../../src/machine/engine.ts";
import { KiB, MiB, pattern } from "../../support/graph.ts";
import { ModelStorage } from "../../support/private-directory.ts";
import { SlowLink } from "../../support/slow-link.ts";
import { VirtualHost } from "../../support/virtual-host.ts";

const url = "http://images.test/disk.img";
const SIZE = 64 * MiB;
const content = pattern(SIZE, 3);

/** A link. */
interface Rate {
  bytesPerSecond: number;
  latencyMs: number;
}

/** A guest's read: where, and how many bytes. */
type Read = readonly [offset: number, bytes: number];

/**
 * A boot like that of Debian by SYSLINUX from a disk of FAT and ext4: 7.5 MiB in some 160 reads. Boot sector and directories, the
 * kernel and its initrd by 127 sectors, then the tables, directories and files of a file system.
 */
function boot(): Read[] {
  const reads: Read[] = [[0, 512]];
  for (let i = 0; i < 12; i++) reads.push([MiB + i * 2 * KiB, 2 * KiB]);
  const file = (from: number, bytes: number): void => {
    for (let at = 0; at < bytes; at += 127 * 512) reads.push([from + at, 127 * 512]);
  };
  file(2 * MiB, 5 * MiB);
  file(8 * MiB, 1.5 * MiB);
  for (let i = 0; i < 16; i++) reads.push([24 * MiB + i * 128 * KiB, 4 * KiB]);
  for (let i = 0; i < 8; i++) reads.push([32 * MiB + i * 96 * KiB, 96 * KiB]);
  for (let i = 0; i < 16; i++) reads.push([33 * MiB + i * 8 * KiB, 8 * KiB]);
  return reads;
}

/** What a boot took. */
interface Cost {
  ms: number;
  bytes: number;
}

/** Between two reads the guest computes. */
async function each(clock: Clock, read: (...one: Read) => Promise<unknown>): Promise<number> {
  const begun = clock.nowMs();
  for (const one of boot()) {
    await read(...one);
    await new Promise<void>((resolve) => void clock.timer(5, resolve));
  }
  return clock.nowMs() - begun;
}

/** As v86's AsyncXHRBuffer loads: whole chunks around what is read, one request at a time, and blocks of 256 bytes that stay. */
async function theirs(rate: Rate, chunk: number): Promise<Cost> {
  const { clock } = new VirtualHost();
  const link = new SlowLink(content, clock, rate);
  const known = new Set<number>();
  const read = async (offset: number, bytes: number): Promise<void> => {
    const blocks = Array.from({ length: bytes / 256 }, (_none, index) => offset / 256 + index);
    if (blocks.every((block) => known.has(block))) return;
    const start = offset - (offset % chunk);
    const end = Math.ceil((offset + bytes) / chunk) * chunk;
    const { signal } = new AbortController();
    const { body } = await link.get(url, {
      headers: { Range: `bytes=${start}-${end - 1}` },
      credentials: "omit",
      signal,
    });
    for await (const _chunk of body as unknown as AsyncIterable<Uint8Array>);
    for (let block = start / 256; block < end / 256; block++) known.add(block);
  };
  return { ms: await clock.settle(each(clock, read)), bytes: link.sentBytes };
}

const engines: [VirtualHost, Engine][] = [];

afterEach(async () => {
  for (const [host, engine] of engines.splice(0)) await host.clock.settle(engine.close());
});

async function ours(rate: Rate, { fills }: { fills: boolean }): Promise<Cost> {
  const host = new VirtualHost();
  const { clock } = host;
  const link = new SlowLink(content, clock, rate);
  const all: Host = Object.assign(Object.create(host) as Host, {
    http: link,
    privateStorage: new ModelStorage(),
  });
  const engine = makeEngine({ host: all, drivers: [...portableDrivers, opfs] }, { arenaBytes: 8 * MiB });
  engines.push([host, engine]);
  const opened = await clock.settle(openGuestDiskIn(engine, { url, size: SIZE, name: "guest" }));
  if (!fills) await clock.settle(opened.pauseFill());
  const before = link.sentBytes;
  const ms = await clock.settle(
    each(clock, (offset, bytes) => Promise.resolve(opened.disk.read(offset, bytes))),
  );
  return { ms, bytes: link.sentBytes - before };
}

test("50 KB/s and 400 ms: beside the filling it boots within 1.5 times of v86's own loader", async () => {
  const rate = { bytesPerSecond: 50_000, latencyMs: 400 };
  const own = await theirs(rate, 512);
  const filling = await ours(rate, { fills: true });
  expect(filling.ms).toBeLessThan(1.5 * own.ms);
});

test("20 Mbit/s and 50 ms: within 1.25 times of v86's best chunk size, with 1.1 times of the bytes of the thriftiest", async () => {
  const rate = { bytesPerSecond: 2_500_000, latencyMs: 50 };
  const costs: Cost[] = [];
  for (const chunk of [16 * KiB, 64 * KiB, 256 * KiB, MiB]) costs.push(await theirs(rate, chunk));
  const filling = await ours(rate, { fills: true });
  expect(filling.ms).toBeLessThan(1.25 * Math.min(...costs.map(({ ms }) => ms)));
  const alone = await ours(rate, { fills: false });
  expect(alone.bytes).toBeLessThan(1.1 * Math.min(...costs.map(({ bytes }) => bytes)));
});
