// Short transfers on the pool's files that wait for no disk: what is in memory is read at once, all else as ever.
import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Answer, isPromise } from "../../../../src/base/answer.ts";
import { CachedTransfers } from "../../../../src/platform/node/at-hand.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { Lane } from "../../../../src/platform/node/lanes.ts";
import { loadNativeCalls } from "../../../../src/platform/node/native.ts";
import { codeOf, hasNative, pattern, temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();
const EAGAIN = 11;
const EOPNOTSUPP = 95;
const data = pattern(10_000);

/** A file of `data`, and transfers to which the kernel says `answers` one after the other; a count is of bytes that it reads. */
function told(...answers: number[]): { read: (buffer: Uint8Array) => Answer<number>; asked: () => number } {
  fs.writeFileSync(path("told"), data);
  const fd = fs.openSync(path("told"), "r");
  let asked = 0;
  const transfers = new CachedTransfers({
    readCached(_fd, buffer, offset) {
      const answer = answers[asked] ?? -EAGAIN;
      asked += 1;
      return answer < 0 ? answer : fs.readSync(fd, buffer, 0, answer, offset);
    },
  });
  const lane = new Lane();
  const read = (buffer: Uint8Array): Answer<number> =>
    transfers.read({ fd, lane, buffer, offset: 0, alignment: 1 });
  return { read, asked: () => asked };
}

test("what is in memory is read at once, and the rest on the pool", async () => {
  const { read, asked } = told(4096, 1000, -EAGAIN, 0);
  // The first may have to let the event loop turn.
  for (let count = 0; count < 4; count++) {
    const buffer = new Uint8Array(4096);
    expect(await read(buffer)).toBe(4096);
    expect(buffer).toEqual(data.subarray(0, 4096));
  }
  expect(asked()).toBe(4);
});

test("the end of the file is told by the pool", async () => {
  const { read } = told(10_000);
  const buffer = new Uint8Array(20_000);
  expect(await read(buffer)).toBe(10_000);
  expect(buffer.subarray(0, 10_000)).toEqual(data);
});

test("who can't say what is in memory is asked once", async () => {
  const { read, asked } = told(-EOPNOTSUPP, 4096);
  for (let count = 0; count < 3; count++) expect(await read(new Uint8Array(4096))).toBe(4096);
  expect(asked()).toBe(1);
});

test("large reads are left to the pool", async () => {
  const { read, asked } = told(10_000);
  expect(await read(new Uint8Array(256 * 1024 + 1))).toBe(10_000);
  expect(asked()).toBe(0);
});

test.runIf(hasNative)("the kernel reads into views of any memory, or says why not", () => {
  fs.writeFileSync(path("views"), data);
  const fd = fs.openSync(path("views"), "r");
  const { readCached } = loadNativeCalls()!;
  const memories = [
    new Uint8Array(8192).subarray(100, 4196),
    new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 8, 4096),
    new Uint8Array(new SharedArrayBuffer(8192), 4096, 4096),
  ];
  for (const buffer of memories) {
    const count = readCached(fd, buffer, 50);
    if (count > 0) expect(buffer.slice(0, count)).toEqual(data.slice(50, 50 + count));
    else expect([-EAGAIN, -EOPNOTSUPP]).toContain(count);
  }
  expect(readCached(-1, new Uint8Array(1), 0)).toBe(-9);
  fs.closeSync(fd);
});

/** A tmpfs, where there is one. */
const memory = "/dev/shm";
const TMPFS = 0x01_02_19_94;
const hasMemory = fs.existsSync(memory) && fs.statfsSync(memory).type === TMPFS;

test.runIf(hasMemory)(
  "a file without a disk is read and written at once, but for large transfers",
  async () => {
    const { files } = nodeHost();
    const directory = fs.mkdtempSync(join(memory, "blockwright-test-"));
    const name = join(directory, "file");
    try {
      fs.writeFileSync(name, "");
      const own = await files.open(name, { write: true });
      // Otherwise the event loop had to turn first; on the pool none ever is at once.
      for (let writing = own.write(data, 5); isPromise(writing); writing = own.write(data, 5)) await writing;
      const buffer = new Uint8Array(data.length);
      for (let reading = own.read(buffer, 5); isPromise(reading); reading = own.read(buffer, 5))
        await reading;
      expect(buffer).toEqual(data);
      const large = own.write(new Uint8Array(1 << 20).fill(7), 0);
      expect(isPromise(large)).toBe(true);
      await large;
      expect(await own.read(new Uint8Array(2 << 20), 0)).toBe(1 << 20);
      await own.close();
      const closed = await files.open(name, { write: false });
      expect(await codeOf(() => closed.write(data, 0))).toBe("EBADF");
      await closed.close();
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  },
);
