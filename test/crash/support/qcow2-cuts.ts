/**
 * Power cuts under the qcow2 driver: a story of writes to a journal, from which the disks are made that a cut may leave, and what each must hold.
 * Images that a snapshot shares are qemu-img's.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BlockBackend } from "../../../src/block/graph/backend.ts";
import { Req } from "../../../src/block/model/contract.ts";
import { BlockGraph } from "../../../src/block/graph/graph.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../../src/drivers/format/qcow2/checked.ts";
import type { Qcow2 } from "../../../src/drivers/format/qcow2/index.ts";
import { memory } from "../../../src/drivers/protocol/memory.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { nodeHost } from "../../../src/platform/node/host.ts";
import { inDirectory, must, tool } from "../../interop/support/qcow2.ts";
import { randomness } from "../../support/random.ts";
import { Journal, journalType } from "./journal.ts";

const SECTOR = 512;
const kernels = loadKernels({ arenaBytes: 2 ** 20 });

/** A change of one guest sector, in instants of the journal. */
interface Change {
  value: number;
  issued: number;
  completed: number;
}

class Story {
  readonly random: (limit: number) => number;
  readonly journal: Journal;
  readonly sectors: Change[][];
  readonly flushes: { issued: number; completed: number }[] = [];
  readonly clusterSize: number;
  /** Whether writes are tried at once first, as the verbs do. */
  readonly quick: boolean;
  /** How many were done so. */
  atOnce = 0;
  #nextValue = 1;

  constructor(init: {
    random: (limit: number) => number;
    journal: Journal;
    size: number;
    clusterSize: number;
    value: number;
    quick: boolean;
  }) {
    this.quick = init.quick;
    this.random = init.random;
    this.journal = init.journal;
    this.clusterSize = init.clusterSize;
    this.sectors = Array.from({ length: init.size / SECTOR }, () => [
      { value: init.value, issued: -1, completed: -1 },
    ]);
  }

  async change(
    disk: BlockBackend,
    offset: number,
    bytes: number,
    kind: "write" | "zero" | "discard" | "compress",
  ): Promise<void> {
    const value = kind === "write" || kind === "compress" ? this.#nextValue++ : 0;
    const change: Change = { value, issued: this.journal.now++, completed: Infinity };
    for (let sector = offset / SECTOR; sector < (offset + bytes) / SECTOR; sector++)
      this.sectors[sector]!.push(change);
    const data = new Uint8Array(bytes);
    new Uint32Array(data.buffer).fill(value);
    if (kind === "zero") await disk.pwriteZeroes(offset, bytes, this.random(2) ? Req.mayUnmap : 0);
    else if (kind === "discard") await disk.pdiscard(offset, bytes);
    else {
      const writing = disk.pwrite(offset, data, kind === "compress" ? Req.compressed : 0);
      if (writing) await writing;
      else this.atOnce++;
    }
    change.completed = this.journal.now++;
  }

  /** Makes the disk larger. */
  async grow(disk: BlockBackend): Promise<void> {
    const count = this.sectors.length + 1 + this.random(600);
    while (this.sectors.length < count) this.sectors.push([{ value: 0, issued: -1, completed: -1 }]);
    await disk.root!.truncate(count * SECTOR, { exact: true, preallocation: "off" });
  }

  async flush(disk: BlockBackend): Promise<void> {
    const issued = this.journal.now++;
    await disk.flush();
    this.flushes.push({ issued, completed: this.journal.now++ });
  }

  /** What the guest may find in a sector after a cut at `at`. */
  allowed(at: number): (sector: number) => Set<number> {
    const flushed = Math.max(
      -1,
      ...this.flushes.filter((flush) => flush.completed <= at).map((flush) => flush.issued),
    );
    return (sector) => {
      let last: Change | undefined;
      const values = new Set<number>();
      for (const change of this.sectors[sector]!) {
        if (change.completed <= flushed) last = change;
        else if (change.issued <= at) values.add(change.value);
      }
      values.add(last?.value ?? 0);
      return values;
    };
  }
}

/** An image of the real tools, full of one pattern that an internal snapshot shares. */
async function snapshottedImage(size: number, clusterSize: number): Promise<Uint8Array> {
  return inDirectory(async (directory) => {
    const path = join(directory, "base.qcow2");
    await must(
      "qemu-img",
      "create",
      "-q",
      "-f",
      "qcow2",
      "-o",
      `cluster_size=${clusterSize}`,
      path,
      String(size),
    );
    await must("qemu-io", "-f", "qcow2", "-c", `write -P 1 0 ${size}`, path);
    await must("qemu-img", "snapshot", "-c", "s", path);
    return readFile(path);
  });
}

/** Throws unless the snapshot still holds its pattern. */
async function checkSnapshot(image: Uint8Array, size: number): Promise<void> {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await writeFile(path, image);
    await must("qemu-img", "convert", "-l", "s", "-O", "raw", path, join(directory, "s.raw"));
    const content = await readFile(join(directory, "s.raw"));
    const damaged = content.subarray(0, size).findIndex((byte) => byte !== 1);
    assert.equal(damaged, -1, `snapshot of ${content.length} bytes`);
    const { output } = await tool("qemu-img", "check", path);
    assert.doesNotMatch(output, /ERROR/);
  });
}

/** An image that holds nothing, with these options of create. */
export async function freshImage(options: Record<string, unknown>): Promise<Uint8Array> {
  const graph = new BlockGraph({ host: nodeHost(), kernels });
  graph.register(memory, qcow2);
  const node = await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  await qcow2.create!({ graph, host: graph.host }, { ...options, file: "m" });
  const bytes = new Uint8Array(node.length);
  await node.driver.pread(0, bytes, 0);
  await graph.close();
  return bytes;
}

/** Opens the journal's image. */
export async function openJournal(
  journal: Journal,
  quick = false,
): Promise<{ graph: BlockGraph; disk: BlockBackend; driver: Qcow2 }> {
  const graph = new BlockGraph({ host: nodeHost(), kernels });
  graph.register(journalType(journal, quick), qcow2);
  const file = { driver: "journal", "node-name": "file" };
  const node = await graph.add({
    driver: "qcow2",
    "node-name": "disk",
    backing: null,
    discard: "unmap",
    file,
    "cache-size": 2 ** 16,
  });
  const disk = new BlockBackend(graph);
  await disk.attach(node, { perm: Perm.consistentRead | Perm.write | Perm.resize, shared: Perm.all });
  return { graph, disk, driver: node.driver as Qcow2 };
}

/** Adjacent pieces one after another, of whole clusters but for the last: only those can be given new ones at once. */
async function copyRun(story: Story, disk: BlockBackend): Promise<void> {
  const { random, clusterSize, sectors } = story;
  const clusters = Math.ceil((sectors.length * SECTOR) / clusterSize);
  const end = sectors.length * SECTOR - (random(4) === 0 ? SECTOR : 0);
  let at = random(clusters) * clusterSize;
  // Between two flushes the run may be all that the image is written.
  if (random(2) === 0) await story.flush(disk);
  for (let count = 2 + random(12); count > 0 && at < end; count--) {
    const bytes = Math.min((1 + random(3)) * clusterSize, end - at);
    await story.change(disk, at, bytes, "write");
    at += bytes;
  }
  if (random(2) === 0) await story.flush(disk);
}

async function act(story: Story, disk: BlockBackend): Promise<void> {
  const { random, clusterSize, sectors } = story;
  if (random(12) === 0) await story.grow(disk);
  const kind = (["write", "write", "write", "write", "zero", "discard", "compress"] as const)[random(7)]!;
  if (story.quick && random(2) === 0) return copyRun(story, disk);
  const unit = kind === "discard" || kind === "compress" ? clusterSize / SECTOR : 1;
  const lanes = 1 + random(6);
  // Each lane has its own part of the disk: requests of a volley never overlap, but may share clusters.
  const lane = Math.floor(sectors.length / lanes / unit) * unit;
  await Promise.all(
    Array.from({ length: lanes }, async (_, index) => {
      const most = Math.max(
        1,
        Math.min(lane / unit, kind === "write" || kind === "zero" ? 1 + random(300) : 4),
      );
      const count = (1 + random(most)) * unit;
      const first = index * lane + Math.floor(random(lane - count + 1) / unit) * unit;
      await story.change(disk, first * SECTOR, count * SECTOR, kind);
    }),
  );
  if (random(4) === 0) await story.flush(disk);
}

async function judge(story: Story, at: number): Promise<void> {
  const keep = [0, 50, 90, 100, 20][story.random(5)]!;
  const left = new Journal(story.journal.crash(at, keep), story.random);
  const { graph, disk, driver } = await openJournal(left);
  const { corruptions } = await driver.check();
  assert.deepEqual(corruptions, [], `cut at ${at}, keeping ${keep} %`);
  const content = new Uint8Array(disk.length);
  await disk.pread(0, content);
  const words = new Uint32Array(content.buffer);
  const allowed = story.allowed(at);
  for (let sector = 0; sector < content.length / SECTOR; sector++) {
    const first = words[(sector * SECTOR) / 4]!;
    const whole = words
      .subarray((sector * SECTOR) / 4, ((sector + 1) * SECTOR) / 4)
      .every((word) => word === first);
    // A torn sector of an unflushed write in place cannot be: the disk tears between sectors only.
    if (!whole || !allowed(sector).has(first)) {
      const words = `sector ${sector} holds ${first}, allowed ${[...allowed(sector)].join(",")}`;
      throw new Error(`cut at ${at}, keeping ${keep} %: ${words}`);
    }
  }
  // What survived must also be safe to go on with.
  const next = new Uint8Array(3 * story.clusterSize + SECTOR).fill(0xee);
  await disk.pwrite(SECTOR * story.random((content.length - next.length) / SECTOR), next);
  assert.deepEqual((await driver.check()).corruptions, [], `written to after a cut at ${at}`);
  await disk.close();
  await graph.close();
}

/** A story to play. */
export interface CutsPlan {
  readonly seed: number;
  /** Writes are tried at once first, as the verbs do. */
  readonly quick: boolean;
  /** Disks that are looked at. */
  readonly cuts: number;
}

/** Whether a seed's image is one of qemu-img's. */
export const wantsQemuImg = (seed: number): boolean => seed % 3 === 0;

/** Plays the story of a seed. Throws where a disk is not what it may be. */
export async function playCuts({ seed, quick, cuts }: CutsPlan): Promise<void> {
  const random = randomness(seed);
  const clusterSize = [512, 1024, 4096, 65536][seed % 4]!;
  const size = 2 ** 21;
  const version = seed % 7 === 6 ? "v2" : "v3";
  const bits = version === "v2" ? 16 : [16, 8, 64, 64, 32][seed % 5]!;
  const shared = wantsQemuImg(seed);
  const base = shared
    ? await snapshottedImage(size, clusterSize)
    : await freshImage({
        size,
        "cluster-size": clusterSize,
        version,
        "refcount-bits": bits,
        "extended-l2": version === "v3" && clusterSize === 65536 && !quick,
      });
  const value = shared ? 0x01010101 : 0;
  const journal = new Journal(base, random);
  const story = new Story({ random, journal, size, clusterSize, value, quick });
  const { graph, disk } = await openJournal(journal, quick);
  for (let index = 0; index < 40; index++) await act(story, disk);
  if (quick) assert.ok(story.atOnce > 5, `${story.atOnce} writes were done at once`);
  await disk.close();
  await graph.close();
  if (shared) await checkSnapshot(journal.crash(journal.now, 0), size);
  for (let cut = 0; cut < cuts; cut++)
    await judge(story, quick && cut % 2 === 0 ? journal.beforeFlush() : random(journal.now + 1));
}
