// Plays one kind of the matrix: an image with a history, made by one side, is read by the other, written on by it, checked
// and compared by the real tools, and written on by the first again. A model in memory knows what must be read.
import { join } from "node:path";
import { expect } from "vitest";
import { randomness } from "../../support/random.ts";
import type { ImageOptions, Kind } from "./matrix-kinds.ts";
import {
  type Backing,
  type Change,
  imageOpts,
  objectWords,
  openKind,
  ourSide,
  type Side,
  theirSide,
} from "./matrix-sides.ts";
import { inDirectory, must, tool } from "./qcow2.ts";
import { SparseDisk } from "./sparse-disk.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const SECTOR = 512;
const CHAIN = 9;
const CHUNK = 2 * MiB;

type Random = (limit: number) => number;

/** An image with what it should hold. */
interface Subject {
  readonly image: ImageOptions;
  readonly path: string;
  readonly random: Random;
  disk: SparseDisk;
  /** Something lies below: what is dropped from this layer is not simply zeroes. */
  backed: boolean;
  /** Clusters that may have a place already: QEMU writes no compressed data over those. */
  touched: Set<number>;
}

/** Where something happens: anywhere, or (a huge disk) at its beginning, its end, and some places between. */
function place({ disk, random }: Subject): number {
  if (disk.size < 2 ** 30) return random(disk.size / SECTOR) * SECTOR;
  const area = random(5) * (disk.size / 4);
  return Math.max(0, Math.min(area, disk.size - MiB)) + random(MiB / SECTOR) * SECTOR;
}

function drawRange(subject: Subject, unit: number): { offset: number; bytes: number } {
  const { disk, random } = subject;
  const start = place(subject);
  const offset = start - (start % unit);
  const most = Math.max(1, Math.floor((random(3) === 0 ? 400 * KiB : 20 * KiB) / unit));
  return { offset, bytes: Math.min((1 + random(most)) * unit, disk.size - offset) };
}

function draw(subject: Subject, discards: boolean): Change {
  const { image, random, backed } = subject;
  const value = 1 + random(255);
  const kind = random(10);
  const droppable = image.noise !== "all" && !(backed && image.vagueDiscard === true);
  if (droppable && (discards ? kind < 5 : kind === 0))
    return { kind: "discard", value, ...drawRange(subject, image.clusterSize) };
  if (kind === 5) return { kind: "zero", value, ...drawRange(subject, SECTOR) };
  if (kind === 6) return { kind: "unmap", value, ...drawRange(subject, SECTOR) };
  if (image.compressed && kind > 3)
    return { kind: "compressed", value, ...drawRange(subject, image.clusterSize) };
  return { kind: "write", value, ...drawRange(subject, SECTOR) };
}

/** Notes the clusters of a change; true: some of them were touched before. */
function touch({ image, touched }: Subject, { offset, bytes }: { offset: number; bytes: number }): boolean {
  let before = false;
  const last = Math.floor((offset + bytes - 1) / image.clusterSize);
  for (let cluster = Math.floor(offset / image.clusterSize); cluster <= last; cluster++) {
    if (touched.has(cluster)) before = true;
    touched.add(cluster);
  }
  return before;
}

/** Some random changes, made by `side` and noted in the model. */
async function change(
  subject: Subject,
  side: Side,
  how: { count: number; discards?: boolean },
): Promise<void> {
  const changes: Change[] = [];
  for (let left = how.count; left > 0; left--) {
    const drawn = draw(subject, how.discards === true);
    const one =
      touch(subject, drawn) && drawn.kind === "compressed" ? { ...drawn, kind: "write" as const } : drawn;
    changes.push(one);
    const writes = one.kind === "write" || one.kind === "compressed";
    subject.disk.fill(one.offset, one.bytes, writes ? one.value : 0);
  }
  await side.change(subject.path, changes);
}

/** Creates the image with its history. Leaves the model as the disk should be. */
async function make(subject: Subject, side: Side, kind: Kind): Promise<void> {
  const { path, random } = subject;
  const { size, history } = kind;
  const below = await makeBelow(subject, side, kind);
  subject.backed = below !== undefined;
  await side.create(path, size, below);
  if (subject.image.noise === "all") await settle(subject, side, 0);
  if (history === "fresh") return;
  await change(subject, side, { count: 10, discards: history === "discarded" });
  if (history === "discarded" || history === "rewritten at random") {
    await change(subject, side, { count: 10, discards: history === "discarded" });
  } else if (history === "snapshotted" || history === "a snapshot applied") {
    await side.snapshot(path, "one");
    const kept = subject.disk.clone();
    await change(subject, side, { count: 5 });
    await side.snapshot(path, "two");
    await change(subject, side, { count: 5 });
    if (history === "snapshotted") return;
    await side.apply(path, "one");
    subject.disk = kept;
  } else if (history === "grown" || history === "grown with preallocation") {
    await resize(subject, side, { size: size + (1 + random(3000)) * SECTOR, metadata: history !== "grown" });
    await change(subject, side, { count: 5 });
  } else if (history === "shrunk and grown again") {
    // To whole clusters: what lies behind the end of the disk in its last cluster shows again in QEMU when the disk grows.
    const { clusterSize } = subject.image;
    const clusters = Math.ceil(size / clusterSize / (2 + random(3)));
    await resize(subject, side, { size: clusters * clusterSize, metadata: false });
    await change(subject, side, { count: 3 });
    await resize(subject, side, { size, metadata: false });
  }
}

/** Zeroes what begins as noise, from `offset` on, so that it is what the model says. */
async function settle({ path, disk }: Subject, side: Side, offset: number): Promise<void> {
  const bytes = disk.size - offset;
  if (bytes > 0) await side.change(path, [{ kind: "zero", offset, bytes, value: 0 }]);
}

async function resize(
  subject: Subject,
  side: Side,
  { size, metadata }: { size: number; metadata: boolean },
): Promise<void> {
  const { disk, image } = subject;
  if (metadata) touch(subject, { offset: disk.size, bytes: size - disk.size });
  const before = disk.size;
  await side.resize(subject.path, size, metadata ? "metadata" : "off");
  disk.resize(size);
  if (image.noise === "all" || (image.noise && metadata)) await settle(subject, side, before);
}

/** The images below, if the history has some: the model then shows their content. */
async function makeBelow(
  subject: Subject,
  side: Side,
  { size, history }: Kind,
): Promise<Backing | undefined> {
  const { image, path, random } = subject;
  if (history === "over a shorter backing file" || history === "over a longer backing file") {
    const longer = history === "over a longer backing file";
    const disk = new SparseDisk(longer ? size + MiB : Math.ceil(size / SECTOR / 3) * SECTOR);
    for (let at = 0; at < disk.size; at += 300 * KiB) disk.fill(at, 200 * KiB, 1 + random(255));
    disk.dump(`${path}.raw`);
    subject.disk = disk.over(size);
    return { file: `${path}.raw`, format: "raw" };
  }
  const levels = history === "chained nine deep" ? CHAIN : history === "over one of its kind" ? 2 : 0;
  let below: Backing | undefined;
  for (let level = 1; level < levels; level++) {
    const layer: Subject = {
      ...subject,
      path: `${path}.${level}`,
      backed: below !== undefined,
      touched: new Set(),
    };
    const length = size - random(300) * SECTOR;
    layer.disk = subject.disk.over(length);
    await side.create(layer.path, length, below);
    await change(layer, side, { count: 3 });
    subject.disk = layer.disk;
    below = { file: layer.path, format: image.driver };
  }
  if (below) subject.disk = subject.disk.over(size);
  return below;
}

/** Reads the whole disk with our driver, save for what it says is zeroes: there the model must know nothing. */
async function expectReads({ image, path, disk }: Subject, what: string): Promise<void> {
  const open = await openKind(image, path, { "read-only": true });
  try {
    expect(open.disk.length, what).toBe(disk.size);
    const truth = new Uint8Array(CHUNK);
    const content = new Uint8Array(CHUNK);
    for (let at = 0; at < disk.size;) {
      const status = await open.disk.root!.blockStatus(at, disk.size - at);
      // What is said to be zeroes is read, too, unless it is very much.
      const skips = status.zero && status.bytes > CHUNK;
      const bytes = skips ? status.bytes : Math.min(CHUNK, disk.size - at);
      if (skips) {
        const held = [...disk.pages(at, at + bytes)].filter(([start, page]) =>
          page.some((byte, index) => byte !== 0 && start + index >= at && start + index < at + bytes),
        );
        expect(held.length, `${what}: zeroes at ${at}`).toBe(0);
      } else {
        disk.read(at, truth.subarray(0, bytes));
        await open.disk.pread(at, content.subarray(0, bytes));
        const same = Buffer.compare(content.subarray(0, bytes), truth.subarray(0, bytes)) === 0;
        expect(same, `${what}: the bytes from ${at} on`).toBe(true);
      }
      at += bytes;
    }
  } finally {
    await open.close();
  }
}

/** Clean for the real check, and equal to the model for the real compare. */
async function expectGood({ image, path, disk }: Subject, what: string): Promise<void> {
  const objects = objectWords(image);
  const opts = imageOpts(image, path);
  const { code, output } = await tool("qemu-img", "check", ...objects, "-q", "--image-opts", opts);
  // 63: the format has no check.
  if (code !== 63) expect(`${what}: ${code} ${output}`).toBe(`${what}: 0 `);
  disk.dump(`${path}.model`);
  const model = `driver=raw,file.driver=file,file.filename=${path}.model`;
  await must("qemu-img", "compare", ...objects, "-q", "--image-opts", opts, model);
}

/** Plays a kind, first made by the real tools and then by us. */
export async function playKind(kind: Kind, seed: number): Promise<void> {
  const { image, size } = kind;
  const theirs = theirSide(image);
  const ours = ourSide(image);
  await inDirectory(async (directory) => {
    const begin = (name: string, more: number): Subject => ({
      image,
      path: join(directory, name),
      random: randomness(seed * 2 + more),
      disk: new SparseDisk(size),
      backed: false,
      touched: new Set(),
    });
    const first = begin("theirs", 0);
    await make(first, theirs, kind);
    await expectReads(first, "made by the real tools");
    await change(first, ours, { count: 8 });
    await expectGood(first, "made by the real tools, written by us");
    await change(first, theirs, { count: 8 });
    await expectReads(first, "written by us, then by the real tools");

    const second = begin("ours", 1);
    await make(second, ours, kind);
    await expectGood(second, "made by us");
    await change(second, theirs, { count: 8 });
    await expectReads(second, "made by us, written by the real tools");
    await change(second, ours, { count: 8 });
    await expectGood(second, "written by the real tools, then by us");
  });
}
