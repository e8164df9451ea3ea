// A restore with seeds: what they have of the backup, wherever it lies, is not read from the store, and the disk is the same.
import { openNode } from "../../../src/index.ts";
import { expect, test } from "vitest";
import { restoreBackup } from "../../../src/api/restore-backup.ts";
import type { Node } from "../../../src/index.ts";
import { Bench, Random } from "./support.ts";

const CHUNK = 65536;
const SIZE = 40 * CHUNK + 512;

/** A store with one backup of `content`, which notes what is read from its packs but for their lists. */
async function stored(content: Uint8Array<ArrayBuffer>) {
  const store = new Bench();
  const repository = await store.repository();
  const node = await store.disk(SIZE);
  await node.write(0, content);
  const backup = await store.backup(repository, node);
  let reads = 0;
  const { get } = store.objects;
  store.objects.get = async (...args: Parameters<typeof get>) => {
    const bytes = await get.apply(store.objects, args);
    if (args[0].startsWith("packs/") && bytes.byteLength > CHUNK / 2) reads += bytes.byteLength;
    return bytes;
  };
  const diskOf = async (bytes: Uint8Array<ArrayBuffer>): Promise<Node> => {
    const disk = await openNode({ driver: "memory", size: bytes.byteLength }, { engine: store.engine });
    await disk.write(0, bytes);
    return disk;
  };
  const progress: number[] = [];
  const restore = async (...seeds: Node[]) => {
    reads = 0;
    progress.length = 0;
    await using target = await openNode({ driver: "memory", size: SIZE }, { engine: store.engine });
    const onProgress = (done: number, total: number): void => void progress.push(done / total);
    const ofSeeds = await restoreBackup(repository, { backup, target, seeds }, { onProgress });
    return { ofSeeds, reads, same: Buffer.compare(await target.read(0, SIZE), content) === 0 };
  };
  return { store, diskOf, restore, progress };
}

function content(seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SIZE);
  bytes.set(new Random(seed).bytes(SIZE).subarray(0, SIZE));
  // A hole, and a chunk that lies at two places.
  bytes.fill(0, 5 * CHUNK, 8 * CHUNK);
  bytes.copyWithin(20 * CHUNK, 2 * CHUNK, 3 * CHUNK);
  return bytes;
}

test("a seed that is the disk leaves nothing to be read", async () => {
  const disk = content(1);
  const { diskOf, restore } = await stored(disk);
  expect(await restore(await diskOf(disk))).toEqual({ ofSeeds: SIZE - 3 * CHUNK, reads: 0, same: true });
});

test("what was changed since is read, once where it lies at two places", async () => {
  const disk = content(2);
  const { diskOf, restore } = await stored(disk);
  const old = disk.slice();
  for (const chunk of [2, 9, 20]) old.fill(77, chunk * CHUNK + 7, chunk * CHUNK + 8);
  // The chunks of a disk that was laid out anew are found where they are.
  old.copyWithin(30 * CHUNK, 31 * CHUNK, 40 * CHUNK);
  old.set(disk.subarray(30 * CHUNK, 31 * CHUNK), 39 * CHUNK);
  const found = await restore(await diskOf(old));
  expect(found).toEqual({ ofSeeds: SIZE - 6 * CHUNK, reads: 2 * CHUNK, same: true });
});

test("several seeds, shorter and longer ones, and one of no use", async () => {
  const disk = content(3);
  const { diskOf, restore } = await stored(disk);
  const whole = await restore();
  expect(whole).toMatchObject({ ofSeeds: 0, same: true });
  const seeds = [content(4), disk.slice(0, 10 * CHUNK), new Uint8Array(2 * SIZE)];
  seeds[2]!.set(disk.subarray(30 * CHUNK), 0);
  const found = await restore(...(await Promise.all(seeds.map(diskOf))));
  // Of the end the longer one has the bytes, and not the chunk.
  expect(found).toEqual({ ofSeeds: (7 + 1 + 10) * CHUNK, reads: whole.reads - 18 * CHUNK, same: true });
});

test("how far it is is told while a seed is looked through, and never goes back", async () => {
  const disk = content(5);
  const { diskOf, restore, progress } = await stored(disk);
  await restore(await diskOf(content(6)), await diskOf(disk.slice(0, 20 * CHUNK)));
  expect(progress).toEqual(progress.toSorted((a, b) => a - b));
  expect(progress.filter((part) => part < 0.7).length).toBeGreaterThan(3);
  expect(progress.at(-1)).toBe(1);
});

test("a seed has what the repository has lost", async () => {
  const disk = content(7);
  const { store, diskOf, restore } = await stored(disk);
  const [pack] = store.objects.packs;
  // Of a pack that is torn there is no list: the nodes of the tree lie in it, too.
  const { get } = store.objects;
  store.objects.get = async (...args: Parameters<typeof get>) => {
    const bytes = await get.apply(store.objects, args);
    if (args[0] === pack && bytes.byteLength === CHUNK) bytes.fill(0);
    return bytes;
  };
  expect(await restore(await diskOf(disk))).toMatchObject({ ofSeeds: SIZE - 3 * CHUNK, same: true });
  await expect(restore()).rejects.toThrow("its bytes are not what was written");
});
