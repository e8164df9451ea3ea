// Jobs that outlive their process: each kind is stopped as by a kill (what was in the files at that moment is put back), goes on in
// another engine, and what it makes is compared byte by byte. And what is refused: changed, swapped and foreign disks and checkpoints.
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  type BlockJob,
  type Engine,
  type Node,
  backup,
  commit,
  convert,
  createEngine,
  createImage,
  fileGate,
  mirror,
  nodeHost,
  openNode,
  resumeJob,
  stream,
  whenReady,
} from "../../../src/node.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 4 * MiB;

vi.setConfig({ testTimeout: 120_000 });

let folder: string;
const engines: Engine[] = [];
const at = (name: string): string => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-checkpoint-"));
});

afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A process of its own, as far as the library knows. */
function newEngine(): Engine {
  const engine = createEngine({ gate: fileGate("all", nodeHost()), arenaBytes: 16 * MiB });
  engines.push(engine);
  return engine;
}

function noise(bytes: number, seed: number): Buffer {
  const made = new Uint32Array(bytes / 4);
  for (let at = 0, word = seed; at < made.length; at++)
    made[at] = word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
  return Buffer.from(made.buffer);
}

/** Data, with a hole, and zeroes that are written. */
function content(): Buffer {
  return noise(SIZE, 1).fill(0, MiB, 1.5 * MiB);
}

const rawFile = (name: string): { driver: "raw"; file: { driver: "file"; filename: string } } => ({
  driver: "raw",
  file: { driver: "file", filename: at(name) },
});

const openRaw = (engine: Engine, name: string, readOnly = true): Promise<Node> =>
  openNode({ ...rawFile(name), "read-only": readOnly }, { engine });

const openQcow2 = (engine: Engine, name: string): Promise<Node> =>
  openNode({ driver: "qcow2", discard: "unmap", file: { driver: "file", filename: at(name) } }, { engine });

async function makeQcow2(engine: Engine, name: string, backing?: string): Promise<void> {
  const file = { driver: "file", filename: at(name) } as const;
  const named = backing === undefined ? {} : { "backing-file": at(backing), "backing-fmt": "raw" as const };
  await createImage({ driver: "qcow2", size: SIZE, file, ...named }, { engine });
}

interface Kind {
  /** What is written. */
  writes: string;
  prepare(engine: Engine): Promise<void>;
  /** Begins it, slowly; resolves with how to end it. */
  start(
    engine: Engine,
    speed: number,
  ): Promise<{ offset(): number; stop(): Promise<void>; done: Promise<unknown> }>;
  /** What the disk shows in the end. */
  result(engine: Engine): Promise<Node>;
}

function steered(job: BlockJob): Awaited<ReturnType<Kind["start"]>> {
  const { done } = job;
  done.catch(() => undefined);
  return {
    offset: () => job.offset,
    stop: async () => {
      await job.cancel();
      await done.catch(() => undefined);
    },
    done,
  };
}

async function finish(job: BlockJob): Promise<void> {
  if (job.type === "mirror" || job.type === "commit") {
    await whenReady(job);
    await job.complete();
  }
  await job.done;
}

const checkpoint = (): string => at("ckpt");

async function twoDisks(engine: Engine): Promise<void> {
  writeFileSync(at("source"), content());
  await makeQcow2(engine, "target");
}

async function chain(engine: Engine): Promise<void> {
  const base = content();
  writeFileSync(at("base"), base);
  await makeQcow2(engine, "top", "base");
  const top = await openQcow2(engine, "top");
  for (let from = 256 * KiB; from < SIZE; from += 2 * MiB) await top.write(from, noise(1.5 * MiB, from));
  await top.close();
}

const kinds: Record<string, Kind> = {
  mirror: {
    writes: "target",
    prepare: twoDisks,
    start: async (engine, speedBytesPerSecond) =>
      steered(
        await mirror(await openRaw(engine, "source"), await openQcow2(engine, "target"), {
          checkpoint: checkpoint(),
          speedBytesPerSecond,
        }),
      ),
    result: (engine) => openQcow2(engine, "target"),
  },
  backup: {
    writes: "target",
    prepare: twoDisks,
    start: async (engine, speedBytesPerSecond) =>
      steered(
        await backup(await openRaw(engine, "source"), await openQcow2(engine, "target"), {
          checkpoint: checkpoint(),
          speedBytesPerSecond,
        }),
      ),
    result: (engine) => openQcow2(engine, "target"),
  },
  convert: {
    writes: "target",
    prepare: twoDisks,
    start: async (engine, speedBytesPerSecond) => {
      const over = new AbortController();
      let offset = 0;
      const options = {
        checkpoint: checkpoint(),
        targetIsZero: true,
        speedBytesPerSecond,
        signal: over.signal,
        onProgress: (done: number) => (offset = done),
      };
      const done = convert(await openRaw(engine, "source"), await openQcow2(engine, "target"), options);
      done.catch(() => undefined);
      const stop = async (): Promise<void> => {
        over.abort(new Error("stopped"));
        await done.catch(() => undefined);
      };
      return { offset: () => offset, stop, done };
    },
    result: (engine) => openQcow2(engine, "target"),
  },
  stream: {
    writes: "top",
    prepare: chain,
    start: async (engine, speedBytesPerSecond) =>
      steered(
        await stream(await openQcow2(engine, "top"), { checkpoint: checkpoint(), speedBytesPerSecond }),
      ),
    result: (engine) => openQcow2(engine, "top"),
  },
  commit: {
    writes: "base",
    prepare: chain,
    start: async (engine, speedBytesPerSecond) =>
      steered(
        await commit(await openQcow2(engine, "top"), { checkpoint: checkpoint(), speedBytesPerSecond }),
      ),
    result: (engine) => openRaw(engine, "base"),
  },
};

/** Where the two slots are, which are small: the file is sparse. */
const slots = [0, 4096 + 64 * MiB];
const SLOT = 256 * KiB;

function readKept(): Buffer[] {
  const fd = openSync(checkpoint(), "r");
  const parts = slots.map((from) => {
    const part = Buffer.alloc(SLOT);
    return part.subarray(0, readSync(fd, part, 0, SLOT, from));
  });
  closeSync(fd);
  return parts;
}

function writeKept(parts: readonly Buffer[]): void {
  const fd = openSync(checkpoint(), "w");
  parts.forEach((part, slot) => writeSync(fd, part, 0, part.length, slots[slot]));
  closeSync(fd);
}

/** Runs a job until it has copied some, and leaves its files as a kill at that moment does. One that was faster is run again, slower. */
async function killed(kind: Kind, speed = 4 * MiB): Promise<void> {
  const engine = newEngine();
  const job = await kind.start(engine, speed);
  await expect.poll(() => job.offset(), { interval: 4 }).toBeGreaterThan(2.5 * MiB);
  const [image, kept] = [readFileSync(at(kind.writes)), existsSync(checkpoint()) ? readKept() : undefined];
  await job.stop();
  await engine.close();
  if (!kept || isOver(kept)) {
    await prepared(kind);
    return killed(kind, speed / 4);
  }
  writeFileSync(at(kind.writes), image);
  writeKept(kept);
}

/** All was copied before its files were looked at. */
function isOver(kept: readonly Buffer[]): boolean {
  return kept.some((part) => /"stage":"(ending|done)"/.test(part.toString("latin1")));
}

/** The disks, as they are before. */
async function prepared(kind: Kind): Promise<void> {
  for (const name of ["source", "target", "top", "base", "ckpt"]) rmSync(at(name), { force: true });
  const engine = newEngine();
  await kind.prepare(engine);
  await engine.close();
}

async function shown(kind: Kind): Promise<Buffer> {
  const engine = newEngine();
  await using disk = await kind.result(engine);
  return Buffer.from(await disk.read(0, SIZE));
}

describe.each(Object.entries(kinds))("%s", (name, kind) => {
  let wanted: Buffer;

  beforeEach(async () => {
    await prepared(kind);
    const engine = newEngine();
    const top = existsSync(at("top")) ? await openQcow2(engine, "top") : await openRaw(engine, "source");
    wanted = Buffer.from(await top.read(0, SIZE));
    await engine.close();
  });

  test("goes on where it was killed, by resumeJob()", async () => {
    await killed(kind);
    const engine = newEngine();
    const job = await resumeJob(checkpoint(), { engine });
    expect(job.type).toBe(name);
    await (job.type === "convert" ? job.done : finish(job));
    if (job.type !== "convert") expect(job.offset).toBeLessThan(SIZE);
    await engine.close();
    expect((await shown(kind)).equals(wanted)).toBe(true);
    expect(existsSync(checkpoint())).toBe(false);
  });

  const again = name === "mirror" || name === "convert" ? test : undefined;
  again?.("goes on by the call that began it, once more killed", async () => {
    await killed(kind);
    const engine = newEngine();
    const second = await kind.start(engine, 4 * MiB);
    const begun = second.offset();
    await expect.poll(() => second.offset(), { interval: 4 }).toBeGreaterThan(begun + 256 * KiB);
    await second.stop();
    await engine.close();
    // Unless it was faster.
    if (existsSync(checkpoint())) {
      const last = newEngine();
      const job = await resumeJob(checkpoint(), { engine: last });
      await (job.type === "convert" ? job.done : finish(job));
      await last.close();
    }
    expect((await shown(kind)).equals(wanted)).toBe(true);
  });

  test("refuses a target that somebody has written to, and a source that was changed, and touches neither", async () => {
    await killed(kind);
    const copied = readFileSync(at(kind.writes));
    const engine = newEngine();
    const disk = kind.writes === "base" ? await openRaw(engine, "base", false) : await kind.result(engine);
    await disk.write(600 * KiB, Buffer.from("another one's"));
    await disk.close();
    const before = readFileSync(at(kind.writes));
    await expect(resumeJob(checkpoint(), { engine })).rejects.toMatchObject({
      code: "ESTALE",
      message: expect.stringMatching(/target was changed at offset \d+ since the checkpoint/) as string,
    });
    expect(readFileSync(at(kind.writes)).equals(before)).toBe(true);
    expect(existsSync(checkpoint())).toBe(true);
    writeFileSync(at(kind.writes), copied);
    const source = existsSync(at("source")) ? "source" : name === "commit" ? "top" : "base";
    const bytes = readFileSync(at(source));
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(at(source), bytes);
    await expect(resumeJob(checkpoint(), { engine })).rejects.toMatchObject({
      code: "ESTALE",
      message: expect.stringContaining(`${source}' was changed since the checkpoint`) as string,
    });
  });
});

describe("a checkpoint", () => {
  const { mirror: kind } = kinds;

  beforeEach(() => prepared(kind!), 60_000);

  test("of another image is refused", async () => {
    await killed(kind!);
    const engine = newEngine();
    await makeQcow2(engine, "other");
    const source = await openRaw(engine, "source");
    const other = await openQcow2(engine, "other");
    await expect(mirror(source, other, { checkpoint: checkpoint() })).rejects.toMatchObject({
      code: "EINVAL",
      message: expect.stringContaining("is of other work: it writes") as string,
    });
    const target = await openQcow2(engine, "target");
    await expect(backup(source, target, { checkpoint: checkpoint() })).rejects.toMatchObject({
      message: expect.stringContaining("is of other work: of a mirror job") as string,
    });
  });

  test("is one process's at a time", async () => {
    const engine = newEngine();
    const job = await kind!.start(engine, 128 * KiB);
    const other = newEngine();
    await expect(resumeJob(checkpoint(), { engine: other })).rejects.toMatchObject({ code: "EBUSY" });
    await job.stop();
    await engine.close();
    const resumed = await resumeJob(checkpoint(), { engine: other });
    await finish(resumed as BlockJob);
    await other.close();
  });

  test("goes by the slot that is whole where the last one was torn", async () => {
    await killed(kind!);
    const [first, second] = readKept();
    // Both slots hold a state by now; the newer one is torn.
    const isFirst = first!.readUInt32LE(4096 + 8) > second!.readUInt32LE(8);
    (isFirst ? first!.subarray(4096) : second!).fill(0x55, 600, 800);
    writeKept([first!, second!]);
    const engine = newEngine();
    await finish((await resumeJob(checkpoint(), { engine })) as BlockJob);
    await engine.close();
    expect((await shown(kind!)).equals(content())).toBe(true);
  });

  test("is no other file, which stays as it is", async () => {
    writeFileSync(checkpoint(), noise(8192, 2));
    const engine = newEngine();
    await expect(kind!.start(engine, 0)).rejects.toMatchObject({
      code: "EINVAL",
      message: expect.stringContaining("is no checkpoint") as string,
    });
    expect(readFileSync(checkpoint()).equals(noise(8192, 2))).toBe(true);
    await expect(resumeJob(at("none"), { engine })).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("is none of what can't have one", async () => {
    const engine = newEngine();
    const [source, target] = [await openRaw(engine, "source"), await openQcow2(engine, "target")];
    for (const start of [mirror, backup])
      await expect(start(source, target, { sync: "none", checkpoint: checkpoint() })).rejects.toMatchObject({
        code: "EINVAL",
      });
    expect(existsSync(checkpoint())).toBe(false);
  });

  test("takes the room of what it says", async () => {
    const engine = newEngine();
    await (await kind!.start(engine, 128 * KiB)).stop();
    expect(statSync(checkpoint()).blocks * 512).toBeLessThan(512 * KiB);
  });
});
