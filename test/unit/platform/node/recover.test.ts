// The way out after a failed flush that lost what was written: jobs that are resumed end with equal content, a node is
// believed again when it is asked for, and a backup that can't be had again says so.
import * as nodeFs from "node:fs";
import { createRequire, syncBuiltinESMExports } from "node:module";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type BlockJob,
  type Engine,
  type Node,
  backup,
  commit,
  createEngine,
  createImage,
  mirror,
  openNode,
  whenReady,
} from "../../../../src/node.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { UnflushedRanges } from "../../../../src/platform/node/lanes.ts";
import { codeOf, pattern, temporaryDirectory } from "./support.ts";

const MiB = 2 ** 20;
const path = temporaryDirectory();
const builtin = createRequire(import.meta.url)("node:fs") as typeof nodeFs;
const real = builtin.fdatasync;
let engine: Engine;
let fails = 0;

beforeEach(() => {
  engine = createEngine();
  fails = 0;
});

afterEach(async () => {
  builtin.fdatasync = real;
  syncBuiltinESMExports();
  await engine.close().catch(() => undefined);
});

/** The next flushes of the file fail, and the first one takes what was written away, as a disk does. */
function loseAtFlush(name: string, times: number, lose = true): void {
  fails = times;
  let lost = !lose;
  builtin.fdatasync = ((fd: number, callback: nodeFs.NoParamCallback) => {
    const ours = nodeFs.readlinkSync(`/proc/self/fd/${fd}`).endsWith(`/${name}`);
    if (!ours || fails-- <= 0) return real(fd, callback);
    if (!lost)
      nodeFs.writeFileSync(path(name), Buffer.alloc(nodeFs.statSync(path(name)).size), { flag: "r+" });
    lost = true;
    setImmediate(() => callback(Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" })));
    return undefined;
  }) as typeof real;
  syncBuiltinESMExports();
}

function open(name: string, content?: Uint8Array): Promise<Node> {
  if (content) nodeFs.writeFileSync(path(name), content);
  return openNode({ driver: "raw", file: { driver: "file", filename: path(name) } }, { engine });
}

/** Resumes the job whenever an error has stopped it; the returned function tells how often. */
function resuming(job: BlockJob): () => number {
  let stops = 0;
  job.addEventListener("BLOCK_JOB_ERROR", () => {
    stops += 1;
    setTimeout(() => job.resume(), 5);
  });
  return () => stops;
}

test("a mirror that a lost flush has stopped copies again when it is resumed, and ends with equal content", async () => {
  const [source, target] = [await open("s", pattern(MiB)), await open("t", new Uint8Array(MiB))];
  loseAtFlush("t", 2);
  const job = await mirror(source, target, { onTargetError: "stop" });
  const stops = resuming(job);
  await whenReady(job);
  await job.complete();
  await job.done;
  // Once for the flush, once for the flush of the file that was opened anew.
  expect(stops()).toBe(2);
  expect(nodeFs.readFileSync(path("t")).equals(pattern(MiB))).toBe(true);
});

test("a backup does the same", async () => {
  const [source, target] = [await open("s", pattern(MiB)), await open("t", new Uint8Array(MiB))];
  loseAtFlush("t", 1);
  const job = await backup(source, target, { onTargetError: "stop" });
  const stops = resuming(job);
  await job.done;
  expect(stops()).toBe(1);
  expect(nodeFs.readFileSync(path("t")).equals(pattern(MiB))).toBe(true);
});

test("a backup whose source was overwritten after the copy fails, since its point in time is lost", async () => {
  const [source, target] = [await open("s", pattern(MiB)), await open("t", new Uint8Array(MiB))];
  loseAtFlush("t", 1);
  const job = await backup(source, target, { onTargetError: "stop" });
  job.addEventListener("BLOCK_JOB_ERROR", () => {
    void source.write(0, new Uint8Array(512)).finally(() => job.resume());
  });
  await expect(job.done).rejects.toMatchObject({ code: "EIO" });
});

test("a commit of an image that nobody writes goes through it again, under its own policy", async () => {
  nodeFs.writeFileSync(path("base"), new Uint8Array(MiB));
  const base = { driver: "file", filename: path("base") } as const;
  for (const [name, backing] of [
    ["middle", "base"],
    ["top", "middle"],
  ] as const) {
    const options = {
      "backing-file": path(backing),
      "backing-fmt": backing === "base" ? ("raw" as const) : ("qcow2" as const),
    };
    const file = { driver: "file", filename: path(name) } as const;
    await createImage({ driver: "qcow2", file, size: MiB, ...options }, { engine });
  }
  const middle = await openNode(
    {
      driver: "qcow2",
      file: { driver: "file", filename: path("middle") },
      backing: { driver: "raw", file: base },
    },
    { engine },
  );
  await middle.write(0, pattern(MiB));
  await middle.close();
  const top = await openNode(
    {
      driver: "qcow2",
      file: { driver: "file", filename: path("top") },
      backing: {
        driver: "qcow2",
        file: { driver: "file", filename: path("middle") },
        backing: { driver: "raw", file: base },
      },
    },
    { engine },
  );
  loseAtFlush("base", 1);
  const job = await commit(top, { top: path("middle"), onError: "stop" });
  const stops = resuming(job);
  await job.done;
  expect(stops()).toBe(1);
  expect(nodeFs.readFileSync(path("base")).equals(pattern(MiB))).toBe(true);
  await top.close();
});

test("a disk is believed again when that is asked for", async () => {
  const disk = await open("d", new Uint8Array(MiB));
  await disk.write(4096, pattern(4096));
  loseAtFlush("d", 1, false);
  expect(await codeOf(disk.flush())).toBe("EIO");
  expect(await codeOf(disk.flush())).toBe("EIO");
  expect([await disk.recover(), await disk.recover()]).toEqual([true, false]);
  await disk.flush();
  await disk.close();
  expect(nodeFs.readFileSync(path("d")).subarray(4096, 8192).equals(pattern(4096))).toBe(true);
});

test("a file that is recovered flushes again, and holds what was written; without a failed flush nothing is done", async () => {
  const { files } = nodeHost();
  await files.create(path("f"), { size: MiB });
  const file = await files.open(path("f"), { write: true });
  expect(await file.recover?.()).toBe(false);
  await file.write(pattern(70_000), 100_000);
  loseAtFlush("f", 2, false);
  expect(await codeOf(file.flush())).toBe("EIO");
  // The disk still fails: nothing is believed.
  expect(await codeOf(file.recover!())).toBe("EIO");
  expect(await codeOf(file.flush())).toBe("EIO");
  const [recovered, again] = [file.recover!(), file.recover!()];
  await file.write(pattern(10), 0);
  expect([await recovered, await again]).toEqual([true, true]);
  await file.flush();
  await file.close();
  expect(nodeFs.readFileSync(path("f")).subarray(100_000, 170_000).equals(pattern(70_000))).toBe(true);
});

test("what was written since the last flush is kept in ranges that may only be too large, in bounded memory", () => {
  const ranges = new UnflushedRanges();
  ranges.add(10, 5);
  ranges.add(200_000, 1);
  expect([...ranges.ranges()]).toEqual([
    { offset: 0, bytes: 65_536 },
    { offset: 196_608, bytes: 65_536 },
  ]);
  const taken = ranges.take();
  ranges.add(70_000, 1);
  expect([...ranges.ranges()]).toEqual([{ offset: 65_536, bytes: 65_536 }]);
  ranges.merge(taken);
  expect([...ranges.ranges()]).toEqual([
    { offset: 0, bytes: 131_072 },
    { offset: 196_608, bytes: 65_536 },
  ]);
  ranges.add(0, 2 ** 34);
  expect([...ranges.ranges()]).toEqual([{ offset: 0, bytes: 2 ** 34 }]);
});
