// What a C program keeps of its disk: pages that it has read or written, until another changes the disk.
import { expect, test } from "vitest";
import { ChangeWatch } from "../../../src/adapters/change-watch.ts";
import { ReadCache, aroundPages } from "../../../src/adapters/read-cache.ts";
import { Node } from "../../../src/api/node.ts";
import {
  type OpenSpec,
  applySnapshot,
  createEngine,
  createImage,
  createSnapshot,
  discardOverlay,
  openNode,
  resize,
} from "../../../src/browser.ts";

const PAGE = 4096;
const MiB = 2 ** 20;
const CACHE_BYTES = 16 * MiB;

const read = (cache: ReadCache, offset: number, bytes: number, version = 0): number[] | undefined => {
  const into = new Uint8Array(bytes);
  return cache.read(into, offset, version) ? [...into] : undefined;
};

test("whole pages are kept, and given out in any part", () => {
  const cache = new ReadCache();
  expect(read(cache, 0, 1)).toBeUndefined();
  const data = Uint8Array.from({ length: 3 * PAGE }, (_byte, at) => at >> 4);
  cache.keep(data, 7 * PAGE - 100);
  expect(read(cache, 7 * PAGE - 1, 1)).toBeUndefined();
  expect(read(cache, 7 * PAGE, 2 * PAGE)).toEqual([...data.subarray(100, 100 + 2 * PAGE)]);
  expect(read(cache, 8 * PAGE - 3, 6)).toEqual([...data.subarray(100 + PAGE - 3, 100 + PAGE + 3)]);
  expect(read(cache, 9 * PAGE - 1, 2)).toBeUndefined();
  cache.drop(8 * PAGE + 5, 1);
  expect(read(cache, 8 * PAGE, 1)).toBeUndefined();
  expect(read(cache, 7 * PAGE, 1)).toEqual([data[100]]);
});

test("a page takes the place of another one, and never stands for it", () => {
  const cache = new ReadCache();
  const far = PAGE + 2 ** 20 * CACHE_BYTES;
  cache.keep(new Uint8Array(PAGE).fill(1), PAGE);
  cache.keep(new Uint8Array(PAGE).fill(2), far);
  expect(read(cache, PAGE, 1)).toBeUndefined();
  expect(read(cache, far, 2)).toEqual([2, 2]);
  cache.drop(PAGE, PAGE);
  expect(read(cache, far, 2)).toEqual([2, 2]);
});

test("another version forgets all, and what was read at an older one is not kept", () => {
  const cache = new ReadCache();
  cache.keep(new Uint8Array(PAGE).fill(1), 0);
  expect(read(cache, 0, 1, 1)).toBeUndefined();
  cache.keep(new Uint8Array(PAGE).fill(1), 0, 0);
  expect(read(cache, 0, 1, 1)).toBeUndefined();
  cache.keep(new Uint8Array(PAGE).fill(2), 0, 1);
  expect(read(cache, 0, 1, 1)).toEqual([2]);
});

test("the pages around a range end with the disk", () => {
  expect(aroundPages(PAGE + 1, PAGE, 100 * PAGE)).toEqual([PAGE, 2 * PAGE]);
  expect(aroundPages(PAGE, PAGE, 100 * PAGE)).toEqual([PAGE, PAGE]);
  expect(aroundPages(PAGE + 1, 1, PAGE + 512)).toEqual([PAGE, 512]);
});

/** A disk that is watched, and how many changes of others there were so far. */
async function watched(spec: OpenSpec): Promise<{ disk: Node; watch: ChangeWatch; seen: () => number }> {
  const engine = createEngine();
  await openNode({ driver: "memory", "node-name": "base", size: MiB }, { engine });
  await openNode({ driver: "memory", "node-name": "file", size: 0 }, { engine });
  await createImage({ driver: "qcow2", file: "file", size: MiB }, { engine });
  const disk = await openNode(spec, { engine });
  let count = 0;
  const watch = new ChangeWatch(disk, () => (count += 1));
  watch.follow();
  return { disk, watch, seen: () => count };
}

const image = { driver: "qcow2", "node-name": "image", file: "file", backing: "base" } as const;

test("every change by others is seen, and none of the own", async () => {
  const { disk, watch, seen } = await watched(image);
  let before = seen();
  /** Whether there was one since the last look. */
  const changed = (): boolean => {
    const isNew = seen() > before;
    before = seen();
    return isNew;
  };
  watch.follow();
  expect(changed()).toBe(false);
  await watch.write(0, new Uint8Array(PAGE).fill(1));
  await disk.read(0, PAGE);
  await disk.flush();
  watch.follow();
  expect(changed()).toBe(false);
  await expect(watch.write(2 * MiB, new Uint8Array(PAGE))).rejects.toThrow("outside the disk");
  expect(changed()).toBe(true);

  await disk.release();
  const other = await Node.attach(disk.engine, disk.engine.graph.lookup("image"));
  const others: (() => Promise<unknown>)[] = [
    () => other.write(0, new Uint8Array(PAGE).fill(2)),
    () => other.writeZeroes(0, PAGE),
    () => createSnapshot(disk, "one"),
    () => resize(disk, 2 * MiB),
    () => applySnapshot(disk, "one"),
    () => discardOverlay(disk),
  ];
  for (const change of others) {
    await change();
    expect(changed(), String(change)).toBe(true);
    watch.follow();
    expect(changed()).toBe(false);
  }

  // Beside an own write: one of the two counts as another's.
  await disk.release();
  await Promise.all([watch.write(0, new Uint8Array(PAGE)), disk.write(PAGE, new Uint8Array(PAGE))]);
  expect(changed()).toBe(true);
  await other.close();
  await disk.close();
  expect(changed()).toBe(true);
});

test("a write below a filter is seen", async () => {
  const { disk, seen } = await watched({ driver: "copy-on-read", file: image });
  await disk.read(0, PAGE);
  const before = seen();
  const other = await Node.attach(disk.engine, disk.engine.graph.lookup("image"));
  await other.write(0, new Uint8Array(PAGE).fill(2));
  expect(seen()).toBeGreaterThan(before);
  await other.close();
  await disk.close();
});
