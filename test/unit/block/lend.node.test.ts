// Reading a disk where it lies in a file: only what lies there for good, and what nobody has to see or to wait for.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { FileRange } from "../../../src/base/host.ts";
import { BlockBackend, readerPermissions } from "../../../src/block/graph/backend.ts";
import { lend } from "../../../src/block/graph/lend.ts";
import {
  type Engine,
  type Node,
  type OpenSpec,
  createEngine,
  createImage,
  openNode,
} from "../../../src/node.ts";

const KiB = 1024;
const SIZE = 256 * KiB;
let folder: string;
let engine: Engine;
let backend: BlockBackend;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-lend-"));
  writeFileSync(join(folder, "disk"), new Uint8Array(SIZE).fill(7));
  engine = createEngine({ warnUnflushed: false });
});

afterEach(async () => {
  await backend.close();
  await engine.close();
  rmSync(folder, { recursive: true });
});

const disk = (): { driver: "file"; filename: string } => ({ driver: "file", filename: join(folder, "disk") });

async function opened(spec: unknown): Promise<Node> {
  const node = await openNode(spec as OpenSpec, { engine });
  backend = new BlockBackend(engine.graph);
  await backend.attach(node.blockNode, readerPermissions);
  return node;
}

/** What is lent of a range: where it lies; undefined: nothing. */
async function lent(offset: number, bytes: number): Promise<Pick<FileRange, "offset" | "bytes"> | undefined> {
  let found: FileRange | undefined;
  const answer = lend(backend, { offset, bytes }, (range) => void (found = range));
  await answer;
  return answer === false ? undefined : found && { offset: found.offset, bytes: found.bytes };
}

it("a raw disk lies where its window is, and no further", async () => {
  const node = await opened({ driver: "raw", file: disk(), offset: 64 * KiB, size: 128 * KiB });
  expect(await lent(4096, 8192)).toEqual({ offset: 64 * KiB + 4096, bytes: 8192 });
  expect(await lent(120 * KiB, 8 * KiB)).toEqual({ offset: 184 * KiB, bytes: 8 * KiB });
  expect(await lent(120 * KiB, 9 * KiB)).toBeUndefined();
  // Nor is it told to whoever asks the driver: the tables of an image in the window may point anywhere.
  expect(node.blockNode.driver.fileRange!(120 * KiB, 9 * KiB)).toBeUndefined();
  expect(node.blockNode.account.read).toMatchObject({ operations: 2, bytes: 16 * KiB });
});

it("a disk that ends within a sector is read where its file ends", async () => {
  writeFileSync(join(folder, "disk"), new Uint8Array(1000));
  await opened({ driver: "raw", file: disk() });
  expect(await lent(0, 512)).toEqual({ offset: 0, bytes: 512 });
  expect(await lent(512, 512)).toBeUndefined();
});

it.each<[string, (file: object) => unknown]>([
  ["of a filter", (file) => ({ driver: "throttle", "throttle-group": "t", file: { driver: "raw", file } })],
  ["over a filter", (file) => ({ driver: "raw", file: { driver: "blkdebug", image: file } })],
  ["of copy on read", (file) => ({ driver: "copy-on-read", file: { driver: "raw", file } })],
])("nothing is lent %s", async (_what, spec) => {
  await engine.objects.add({ "qom-type": "throttle-group", id: "t" });
  await opened(spec(disk()));
  expect(await lent(0, 4096)).toBeUndefined();
});

it("nothing is lent of an image whose clusters may come to lie elsewhere", async () => {
  const file = { driver: "file", filename: join(folder, "image") } as const;
  await createImage({ driver: "qcow2", file, size: SIZE }, { engine });
  const node = await opened({ driver: "qcow2", file });
  await node.write(0, new Uint8Array(4096).fill(1));
  expect(await lent(0, 4096)).toBeUndefined();
});

it("nothing is lent while the disk is drained, held, or somebody's request is in the way", async () => {
  const node = await opened({ driver: "raw", file: disk() });
  backend.drainedBegin();
  expect(await lent(0, 4096)).toBeUndefined();
  backend.drainedEnd();
  backend.held = () => true;
  expect(await lent(0, 4096)).toBeUndefined();
  backend.held = undefined;
  const { requests } = node.blockNode;
  const request = requests.begin("write", 8192, 4096);
  requests.makeSerialising(request, 4096);
  await requests.waitSerialising(request);
  expect(await lent(0, 16_384)).toBeUndefined();
  expect(await lent(0, 8192)).toEqual({ offset: 0, bytes: 8192 });
  requests.end(request);
  expect(await lent(0, 16_384)).toEqual({ offset: 0, bytes: 16_384 });
});

it("what is read later keeps a drain waiting, and counts as failed where it fails", async () => {
  const node = await opened({ driver: "raw", file: disk() });
  let fail = (_error: Error): void => undefined;
  const reading = lend(
    backend,
    { offset: 0, bytes: 4096 },
    () => new Promise((_resolve, reject) => (fail = reject)),
  );
  const failing = expect(reading).rejects.toThrow("the peer is gone");
  expect([backend.drainedBusy(), node.blockNode.inFlight]).toEqual([true, 1]);
  fail(new Error("the peer is gone"));
  await failing;
  expect([backend.drainedBusy(), node.blockNode.inFlight]).toEqual([false, 0]);
});
