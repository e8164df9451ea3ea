// Files whose data is moved in the caller's turn: the same answers as by the pool, and an event loop that still turns.
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { type Answer, isPromise } from "../../../../src/base/answer.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { codeOf, pattern, temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();
const { files } = nodeHost({ io: "in-turn" });

/** Asks until it is answered at once: otherwise the event loop had to turn first. */
async function insist<T>(ask: () => Answer<T>): Promise<T> {
  for (;;) {
    const answer = ask();
    if (!isPromise(answer)) return answer;
    await answer;
  }
}

test("reads and writes at once, and tells the end of the file", async () => {
  await files.create(path("rw"), { size: 0 });
  const own = await files.open(path("rw"), { write: true });
  const data = pattern(10_000);
  await insist(() => own.write(data, 500));
  expect(fs.readFileSync(path("rw")).subarray(500)).toEqual(Buffer.from(data));
  const buffer = new Uint8Array(20_000);
  expect(await insist(() => own.read(buffer, 500))).toBe(10_000);
  expect(buffer.subarray(0, 10_000)).toEqual(data);
  expect(await own.read(buffer, 600)).toBe(9900);
  await own.write(data, 0);
  expect(await own.size()).toBe(10_500);
  await own.close();
});

test("leaves large reads to the pool", async () => {
  await files.create(path("large"), { size: 2 << 20 });
  const own = await files.open(path("large"), { write: true });
  await insist(() => own.read(new Uint8Array((1 << 20) - 1), 0));
  expect(isPromise(own.read(new Uint8Array(1 << 20), 0))).toBe(true);
  expect(await own.read(new Uint8Array(2 << 20), 0)).toBe(2 << 20);
  await own.close();
});

test("tells why something fails, at once too", async () => {
  await files.create(path("read-only"), { size: 4096 });
  const own = await files.open(path("read-only"), { write: false });
  const full = await files.open("/dev/full", { write: true });
  const one = new Uint8Array(1);
  for (const [request, code] of [
    [() => own.write(one, 0), "EBADF"],
    [() => own.read(one, -1.5), "EINVAL"],
    [() => full.write(one, 0), "ENOSPC"],
  ] as const) {
    // The first ones may have to let the event loop turn.
    for (let count = 0; count < 3; count++) expect(await codeOf(request)).toBe(code);
    let thrown: unknown;
    while (thrown === undefined) {
      try {
        const answer = request();
        if (isPromise(answer as Answer<unknown>)) await (answer as Promise<unknown>).catch(() => undefined);
      } catch (error) {
        thrown = error;
      }
    }
    expect(thrown).toMatchObject({ code });
  }
  await own.close();
  await full.close();
});

test("a hole that was written at once is data", async () => {
  await files.create(path("hole"), { size: 1 << 20 });
  const own = await files.open(path("hole"), { write: true });
  await own.lock({ perm: 2, shared: 1 });
  const before = await own.extentAt(65_536);
  await insist(() => own.write(new Uint8Array(65_536).fill(1), 65_536));
  const after = await own.extentAt(65_536);
  // Where holes can't be told, nothing is known before and after.
  if (before) expect([before.data, after?.data]).toEqual([false, true]);
  await own.close();
});

test("the event loop turns while transfer follows upon transfer", async () => {
  await files.create(path("other"), { size: 4096 });
  const own = await files.open(path("other"), { write: true });
  let turned = false;
  setTimeout(() => (turned = true), 1);
  const buffer = new Uint8Array(4096);
  let reads = 0;
  while (!turned && reads < 10_000_000) {
    const read = own.read(buffer, 0);
    if (isPromise(read)) await read;
    reads += 1;
  }
  expect(turned).toBe(true);
});

test("large reads leave the turn, and read the same", async () => {
  const data = pattern(3 << 20);
  fs.writeFileSync(path("large"), data);
  const own = await files.open(path("large"), { write: false });
  const buffer = new Uint8Array(4 << 20);
  let turned = false;
  setImmediate(() => (turned = true));
  expect(await own.read(buffer, 0)).toBe(3 << 20);
  expect(turned).toBe(true);
  expect(Buffer.compare(buffer.subarray(0, 3 << 20), data)).toBe(0);
  await own.close();
});

test("files that bypass the page cache go by the pool", async () => {
  await files.create(path("direct"), { size: 1 << 20 });
  const own = await files.open(path("direct"), { write: true, direct: true }).catch(() => undefined);
  // A filesystem may refuse O_DIRECT.
  if (!own) return;
  const page = new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer, 0, 4096);
  const read = own.read(page, 0);
  expect(isPromise(read)).toBe(true);
  expect(await read).toBe(4096);
  await own.close();
});
