// What a request of a page costs beside one in the worker, over a disk in memory: printed, not judged. The content is checked.
import { expect, it } from "vitest";
import { connectWorker, createEngine, openNode } from "../../src/browser.ts";
import { pattern, same } from "../unit/support/graph.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const ROUNDS = 300;

interface Readable {
  read(offset: number, bytes: number): Promise<Uint8Array>;
}

/** Microseconds of one request of `bytes`, one after the other. */
async function cost(disk: Readable, bytes: number): Promise<number> {
  for (let round = 0; round < 50; round++) await disk.read(round * bytes, bytes);
  const started = performance.now();
  for (let round = 0; round < ROUNDS; round++) await disk.read(((round * 7919) % 60) * bytes, bytes);
  return ((performance.now() - started) * 1000) / ROUNDS;
}

it("reads in this thread, by transferred buffers and by shared memory", async () => {
  const createWorker = (): Worker =>
    new Worker(new URL("../../src/worker.ts", import.meta.url), { type: "module" });
  await using engine = await connectWorker(undefined, { createWorker });
  await using local = createEngine();
  const spec = { driver: "memory", size: 16 * MiB } as const;
  const disks = {
    "this thread": await openNode(spec, { engine: local }),
    transferred: await engine.open(spec, { shared: false }),
    shared: await engine.open(spec, { shared: true }),
  };
  for (const [name, disk] of Object.entries(disks)) {
    await disk.write(0, pattern(16 * MiB, 3));
    const [small, large] = [await cost(disk, 4 * KiB), await cost(disk, 128 * KiB)];
    console.log(`${name}: 4 KiB ${small.toFixed(1)} µs, 128 KiB ${large.toFixed(1)} µs`);
    expect(
      same(await disk.read(5 * MiB, 128 * KiB), pattern(16 * MiB, 3).subarray(5 * MiB, 5 * MiB + 128 * KiB)),
    ).toBe(true);
  }
});
