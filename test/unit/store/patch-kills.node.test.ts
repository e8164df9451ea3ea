// Patches, and what they are made of, whoever is killed, prunes or makes backups at whatever moment: no chunk is ever lost.
import { expect, onTestFinished, test } from "vitest";
import type { Node } from "../../../src/node.ts";
import type { Backup } from "../../../src/store/description.ts";
import { Codec } from "../../../src/store/pack.ts";
import type { Repository } from "../../../src/store/repository.ts";
import { sweep } from "../../../src/store/sweep.ts";
import { verify } from "../../../src/store/verify.ts";
import {
  Bench,
  Random,
  atEveryOperation,
  emptiedAtEveryOperation,
  isSame,
  killAt,
  prune,
} from "./support.ts";

/** For stories of hundreds of runs, on a machine that does something else too. */
const LONG_MS = 120_000;
const CHUNK = 65536;
const BLOCK = 4096;
const CHUNKS = 24;

async function bench(): Promise<Bench> {
  const store = new Bench();
  onTestFinished(() => store.engine.close());
  return store;
}

/** What is there lies so many blocks later, new ones before it. */
function shifted(content: Uint8Array, random: Random, blocks: number): Uint8Array {
  const after = content.slice();
  after.copyWithin(blocks * BLOCK, 0, content.byteLength - blocks * BLOCK);
  after.set(random.bytes(blocks * BLOCK));
  return after;
}

/** Packs, and the patches in them whose blob is not there whole. */
async function patchesIn(repository: Repository): Promise<number> {
  const index = await repository.index(() => undefined, { withCondemned: true });
  const hashes = index.packs.flatMap((pack) => Array.from({ length: pack.blobs }, (_, at) => pack.hash(at)));
  return hashes.filter((hash) => index.find(hash)?.codec === Codec.patch).length;
}

/** Four versions whose chunks are patches of those before, of which the first, with most of what they are made of, and the second go. */
async function chain(
  store: Bench,
): Promise<{ node: Node; random: Random; gone: Backup[]; stay: Backup[]; contents: Uint8Array[] }> {
  const random = new Random(5);
  const repository = await store.repository();
  // Half of the first disk is needed by nobody else: its pack is written anew.
  const node = await store.disk(3 * CHUNKS * CHUNK);
  let content = random.bytes(CHUNKS * CHUNK);
  await node.write(0, content);
  await node.write(CHUNKS * CHUNK, random.bytes(2 * CHUNKS * CHUNK));
  const made = [await store.backup(repository, node)];
  const contents = [await node.read(0, node.length)];
  await node.writeZeroes(CHUNKS * CHUNK, 2 * CHUNKS * CHUNK);
  for (const blocks of [3, 2, 5]) {
    content = shifted(content, random, blocks);
    await node.write(0, content.slice());
    made.push(await store.backup(repository, node, made.at(-1)));
    contents.push(await node.read(0, node.length));
  }
  expect(await patchesIn(repository)).toBeGreaterThan(CHUNKS);
  return { node, random, gone: made.slice(0, 2), stay: made.slice(2), contents: contents.slice(2) };
}

async function expectWhole(
  store: Bench,
  { stay, contents }: { stay: readonly Backup[]; contents: readonly Uint8Array[] },
  when: string,
): Promise<void> {
  const repository = await store.repository();
  for (const [at, backup] of stay.entries())
    expect(isSame(await store.restored(repository, backup), contents[at]!), `${backup.id}, ${when}`).toBe(
      true,
    );
}

test(
  "a prune that is killed at any operation leaves what patches are made of, and the next one ends it",
  async () => {
    const store = await bench();
    const { gone, stay, contents } = await chain(store);
    const operations = await atEveryOperation(
      store,
      () => prune(store, gone),
      async (at) => {
        await killAt(store, at, () => prune(store, gone, 77));
        await expectWhole(store, { stay, contents }, `killed at ${at}`);
        await prune(store, gone);
        await expectWhole(store, { stay, contents }, `killed at ${at}, and ended`);
        const repository = await store.repository();
        expect(await verify(repository)).toMatchObject({ backups: 2, broken: [], damaged: [] });
        expect([...store.objects.all.keys()].filter((name) => /^(holders|condemned)/.test(name))).toEqual([]);
        await sweep(repository);
        expect(await sweep(repository)).toEqual({ removedPacks: 0, removedBytes: 0, waitingPacks: 0 });
      },
    );
    expect(operations).toBeGreaterThan(20);
  },
  LONG_MS,
);

test(
  "a backup that is killed at any operation harms nothing, and what it left may be relied on",
  async () => {
    const store = await bench();
    const { node, random, stay, contents } = await chain(store);
    await node.write(0, shifted(await node.read(0, CHUNKS * CHUNK), random, 7));
    const content = await node.read(0, node.length);
    const create = async (pid: number): Promise<Backup> => {
      // All of it is new to the bitmap each time.
      await node.write(0, content.slice());
      return store.backup(await store.repository(pid), node, stay.at(-1));
    };
    await atEveryOperation(
      store,
      () => create(1),
      async (at) => {
        await killAt(store, at, () => create(77));
        const left = new Map(store.objects.all);
        // One that finds its packs, and then a prune; or a prune first.
        for (const isPrunedFirst of [false, true]) {
          store.objects.all = new Map(left);
          if (isPrunedFirst) await sweep(await store.repository());
          const made = await create(1);
          const all = { stay: [...stay, made], contents: [...contents, content] };
          await expectWhole(store, all, `killed at ${at}`);
          await prune(store, stay);
          await expectWhole(store, { stay: [made], contents: [content] }, `killed at ${at}, and pruned`);
          expect(await verify(await store.repository())).toMatchObject({ broken: [], damaged: [] });
        }
      },
    );
  },
  LONG_MS,
);

test(
  "a backup whose patches need what no other backup needs is whole, wherever in a prune it begins and ends",
  async () => {
    const store = await bench();
    const { node, random, gone: first, stay } = await chain(store);
    const gone = [...first, ...stay];
    await node.write(0, shifted(await node.read(0, CHUNKS * CHUNK), random, 7));
    const content = await node.read(0, node.length);
    let patched = 0;
    await atEveryOperation(
      store,
      () => prune(store, gone),
      async (at) => {
        let made: Backup | undefined;
        let isMade = false;
        store.objects.before = async (count) => {
          if (isMade || count < at) return;
          isMade = true;
          made = await store.backup(await store.repository(2), node);
          // Of a repository that was empty by then it has none.
          if ((await patchesIn(await store.repository(2))) > CHUNKS / 2) patched += 1;
        };
        await prune(store, gone);
        const all = { stay: [made!], contents: [content] };
        await expectWhole(store, all, `made at ${at}`);
        for (let turn = 0; turn < 2; turn += 1) {
          await sweep(await store.repository());
          await expectWhole(store, all, `made at ${at}, and pruned`);
        }
        expect(await verify(await store.repository())).toMatchObject({ backups: 1, broken: [], damaged: [] });
      },
    );
    expect(patched).toBeGreaterThan(10);
  },
  LONG_MS,
);

test(
  "a prune at any operation of a running backup or restore takes nothing that patches are made of",
  async () => {
    const store = await bench();
    const { node, random, stay } = await chain(store);
    await node.write(0, shifted(await node.read(0, CHUNKS * CHUNK), random, 7));
    const content = await node.read(0, node.length);
    const turn = async (): Promise<void> => {
      await node.write(0, content.slice());
      const made = await store.backup(await store.repository(), node, stay.at(-1));
      expect(isSame(await store.restored(await store.repository(), made), content)).toBe(true);
    };
    // Nobody needs anything by then: twice, so that what waits goes where it may.
    const guarded = await emptiedAtEveryOperation(store, turn, 2);
    expect(guarded).toBeGreaterThan(20);
  },
  LONG_MS,
);

/** Disks that have much alike, backed up at one time by several processes, pruned meanwhile, some of them killed. */
async function muddle(store: Bench, seed: number): Promise<void> {
  const random = new Random(seed);
  const kept = new Map<string, { backup: Backup; content: Uint8Array }>();
  const nodes = [await store.disk(CHUNKS * CHUNK), await store.disk(CHUNKS * CHUNK)];
  const [one, other] = nodes as [Node, Node];
  await one.write(0, random.bytes(CHUNKS * CHUNK));
  let pid = 100;
  const create = async (node: Node): Promise<void> => {
    pid += 1;
    const own = pid;
    const content = await node.read(0, node.length);
    const made = await store.backup(await store.repository(own), node);
    kept.set(made.id, { backup: made, content });
  };
  for (let turn = 0; turn < 6; turn += 1) {
    for (const node of nodes) {
      const content = await node.read(0, node.length);
      await node.write(0, shifted(content, random, random.integer(1, 20)));
    }
    // Much of one disk comes to the other, by blocks.
    const blocks = random.integer(16, 100);
    const moved = await one.read(BLOCK * random.integer(0, 100), blocks * BLOCK);
    await other.write(BLOCK * random.integer(0, 200), moved);
    for (const id of kept.keys()) {
      if (random.integer(0, 2) > 0) continue;
      await (await store.repository()).forget(kept.get(id)!.backup);
      kept.delete(id);
    }
    // All of them take turns at every operation, in an order that is drawn.
    store.objects.before = async () => {
      for (let left = random.integer(0, 5); left > 0; left -= 1) await new Promise(setImmediate);
    };
    const sweeping = async (): Promise<unknown> => {
      for (let left = random.integer(0, 100); left > 0; left -= 1) await new Promise(setImmediate);
      return sweep(await store.repository(2));
    };
    await Promise.all([create(one), create(other), sweeping(), ...(turn % 2 ? [create(other)] : [])]);
    store.objects.before = () => undefined;
    for (const { backup, content } of kept.values())
      expect(isSame(await store.restored(await store.repository(), backup), content), `turn ${turn}`).toBe(
        true,
      );
  }
  expect(await patchesIn(await store.repository())).toBeGreaterThan(0);
  await sweep(await store.repository());
  const verdict = await verify(await store.repository());
  expect(verdict).toMatchObject({ backups: kept.size, broken: [], damaged: [] });
  for (const { backup } of kept.values()) await (await store.repository()).forget(backup);
  await sweep(await store.repository());
  expect(store.objects.packs).toEqual([]);
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  "two disks at once, and a prune beside them, lose nothing (seed %d)",
  async (seed) => muddle(await bench(), seed),
  LONG_MS,
);

/** Blobs of one kind, in their packs. */
async function placesOf(
  repository: Repository,
  isMeant: (codec: number) => boolean,
): Promise<{ pack: string; offset: number }[]> {
  const { packs } = await repository.index(() => undefined);
  return packs.flatMap((pack) =>
    Array.from({ length: pack.count }, (_, at) => pack.place(at)).filter(({ codec }) => isMeant(codec)),
  );
}

function spoil(store: Bench, { pack, offset }: { pack: string; offset: number }): void {
  const bytes = store.objects.all.get(pack)!.slice();
  bytes[offset]! ^= 1;
  store.objects.all.set(pack, bytes);
}

test("a base that is damaged is told of every backup that needs it, and no new patch is made of it", async () => {
  const store = await bench();
  const repository = await store.repository();
  const random = new Random(11);
  const before = random.bytes(CHUNKS * CHUNK);
  const node = await store.disk(before.byteLength);
  await node.write(0, before.slice());
  await store.backup(repository, node);
  const bases = await placesOf(repository, (codec) => codec === Codec.none);
  const after = shifted(before, random, 3);
  await node.write(0, after.slice());
  const made = await store.backup(repository, node);
  for (const place of bases) spoil(store, place);
  const verdict = await verify(repository);
  expect(verdict.broken.map(({ id }) => id)).toContain(made.id);
  await expect(store.restored(repository, made)).rejects.toThrow(
    /chunk [0-9a-f]{64} .*are not what was written/s,
  );
  const later = shifted(after, random, 2);
  await node.write(0, later.slice());
  const again = await store.backup(repository, node);
  expect(isSame(await store.restored(repository, again), later)).toBe(true);
});

test("where a pack's word on its patches is damaged nothing goes, and the same chunks are stored whole", async () => {
  const store = await bench();
  const { stay, contents, node } = await chain(store);
  const repository = await store.repository();
  for (const place of await placesOf(repository, (codec) => codec === Codec.notes)) spoil(store, place);
  await expectWhole(store, { stay, contents }, "with damaged notes");
  const { damaged } = await verify(repository);
  for (const { problem } of damaged) expect(problem).toContain("its notes are not what was written");
  expect(damaged.map(({ object }) => object).toSorted()).toEqual(store.objects.packs.toSorted());
  const packs = store.objects.packs;
  await expect(sweep(repository)).rejects.toThrow("its notes are not what was written");
  expect(store.objects.packs).toEqual(packs);
  const again = await store.backup(repository, node);
  expect(again.newBytes).toBeGreaterThan(CHUNKS * CHUNK * 0.9);
  await expectWhole(store, { stay: [again], contents: contents.slice(-1) }, "stored anew");
});

test("a backup that went before its successor was at work is nothing to begin with", async () => {
  const store = await bench();
  const random = new Random(12);
  const node = await store.disk(CHUNKS * CHUNK);
  const repository = await store.repository();
  await node.write(0, random.bytes(CHUNK));
  const gone = [await store.backup(repository, node)];
  await node.write(2 * CHUNK, random.bytes(9 * CHUNK));
  const since = await store.backup(repository, node, gone[0]);
  const content = await node.read(0, node.length);
  // Most of its pack stays, with its tree, for one that lacks the first chunk.
  const other = await store.disk(CHUNKS * CHUNK);
  await other.write(2 * CHUNK, content.slice(2 * CHUNK));
  await store.backup(repository, other);
  await prune(store, [...gone, since]);
  const made = await store.backup(repository, node, since);
  expect(made.kind).toBe("full");
  expect(isSame(await store.restored(repository, made), content)).toBe(true);
});
