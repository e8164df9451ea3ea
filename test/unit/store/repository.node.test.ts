// A repository of backups against a model: what was backed up is restored, whatever is changed, resized, forgotten, killed
// and damaged meanwhile; and what nobody needs goes.
import { expect, onTestFinished, test } from "vitest";
import { type Node, resize } from "../../../src/node.ts";
import { changedRuns, dirtyIn } from "../../../src/api/backups.ts";
import type { Backup } from "../../../src/store/description.ts";
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
const KiB = 1024;
const CHUNK = 64 * KiB;

/** Writes something at random: noise, a pattern that others have too, or zeroes. */
async function scribble(node: Node, random: Random): Promise<void> {
  const bytes = 512 * random.integer(1, 400);
  const offset = Math.min(512 * random.integer(0, Math.floor(node.length / 512)), node.length - bytes);
  if (offset < 0) return;
  const kind = random.integer(0, 3);
  if (kind === 0) await node.writeZeroes(offset, bytes);
  else if (kind === 1) await node.write(offset, new Uint8Array(bytes).fill(random.integer(1, 4)));
  else await node.write(offset, random.bytes(bytes));
}

async function bench(): Promise<Bench> {
  const made = new Bench();
  onTestFinished(() => made.engine.close());
  return made;
}

test.each([1, 2, 3, 4, 5, 6])("each of many turns is restored as it was (seed %d)", async (seed) => {
  const random = new Random(seed);
  const store = await bench();
  const repository = await store.repository();
  const node = await store.disk(9 * 2 ** 20 + 512 * seed);
  const made: { backup: Backup; content: Uint8Array }[] = [];
  // The backup since which the bitmap records, while it is there.
  let last: Backup | undefined;
  for (let turn = 0; turn < 12; turn += 1) {
    for (let write = random.integer(0, 6); write > 0; write -= 1) await scribble(node, random);
    if (random.integer(0, 4) === 0) await resize(node, 512 * random.integer(1, 24_000));
    const since = random.integer(0, 5) === 0 ? undefined : last;
    const content = await node.read(0, node.length);
    last = await store.backup(repository, node, since);
    made.push({ backup: last, content });
    if (random.integer(0, 4) === 0) {
      const [gone] = made.splice(random.integer(0, made.length - 1), 1);
      if (gone?.backup === last) last = undefined;
      if (gone) await repository.forget(gone.backup);
      await sweep(repository);
    }
  }
  for (const { backup, content } of made)
    expect(isSame(await store.restored(repository, backup), content), backup.id).toBe(true);
  expect(await verify(repository)).toMatchObject({ backups: made.length, broken: [], damaged: [] });
});

test("an incremental backup reads what changed, and adds little more than that", async () => {
  const store = await bench();
  const repository = await store.repository();
  const node = await store.disk(2 ** 30);
  const random = new Random(1);
  for (let at = 0; at < 16; at += 1) await node.write(at * 2 ** 26, random.bytes(CHUNK));
  const first = await store.backup(repository, node);
  for (let at = 0; at < 16; at += 1) await node.write(at * 2 ** 26 + 2 ** 25, random.bytes(CHUNK));
  const second = await store.backup(repository, node, first);
  expect(second).toMatchObject({ kind: "incremental", parent: first.id, readBytes: 16 * CHUNK });
  expect(second.storedBytes).toBeLessThan(16 * CHUNK * 1.05);
  const third = await store.backup(repository, node, second);
  expect(third).toMatchObject({ readBytes: 0, newBytes: 0, storedBytes: 0, root: second.root });
  const again = await store.backup(repository, node);
  expect(again).toMatchObject({ kind: "full", newBytes: 0, root: second.root });
});

test("the chunk at the end of the shorter disk is read again after a resize", async () => {
  const store = await bench();
  const node = await store.disk(3 * CHUNK + 512);
  const repository = await store.repository();
  await node.write(3 * CHUNK, new Uint8Array(512).fill(7));
  const backup = await store.backup(repository, node);
  await resize(node, 5 * CHUNK);
  const runs = [];
  for await (const run of changedRuns(node, { backup, changed: () => dirtyIn(node, "b") })) runs.push(run);
  expect(runs).toEqual([{ chunk: 3, count: 1, data: true }]);
  const content = await node.read(0, node.length);
  expect(
    isSame(await store.restored(repository, await store.backup(repository, node, backup)), content),
  ).toBe(true);
});

/** Five versions of a disk, of which the first two are to go. */
async function threeToKeep(
  store: Bench,
): Promise<{ gone: Backup[]; stay: Backup[]; contents: Uint8Array[]; node: Node }> {
  const repository = await store.repository();
  const node = await store.disk(6 * 2 ** 20);
  const random = new Random(9);
  const made: Backup[] = [];
  const contents: Uint8Array[] = [];
  for (let turn = 0; turn < 5; turn += 1) {
    for (let write = 0; write < 4; write += 1) await scribble(node, random);
    made.push(await store.backup(repository, node, made.at(-1)));
    contents.push(await node.read(0, node.length));
  }
  return { gone: made.slice(0, 2), stay: made.slice(2), contents: contents.slice(2), node };
}

test(
  "a prune that is killed at any operation leaves the others whole, and the next one ends it",
  async () => {
    const store = await bench();
    const { gone, stay, contents } = await threeToKeep(store);
    const operations = await atEveryOperation(
      store,
      () => prune(store, gone),
      async (at) => {
        await killAt(store, at, () => prune(store, gone, 77));
        const repository = await store.repository();
        for (const [index, backup] of stay.entries())
          expect(isSame(await store.restored(repository, backup), contents[index]!), `killed at ${at}`).toBe(
            true,
          );
        await prune(store, gone);
        expect(await verify(repository)).toMatchObject({ backups: 3, broken: [], damaged: [] });
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
  "a prune at any operation of a running backup or restore takes nothing that they use",
  async () => {
    const store = await bench();
    const { node, stay } = await threeToKeep(store);
    const content = new Uint8Array(node.length);
    const turn = async (): Promise<void> => {
      await node.write(0, new Uint8Array(CHUNK).fill(1));
      content.set(await node.read(0, node.length));
      const made = await store.backup(await store.repository(), node, stay.at(-1));
      expect(isSame(await store.restored(await store.repository(), made), content)).toBe(true);
    };
    const guarded = await emptiedAtEveryOperation(store, turn);
    expect(guarded).toBeGreaterThan(20);
  },
  LONG_MS,
);

test(
  "a backup that begins and ends at any operation of a prune is whole, also of what was only in backups that go",
  async () => {
    const store = await bench();
    const { gone: first, stay, contents, node } = await threeToKeep(store);
    // Nothing stays but the backup that is made meanwhile.
    const gone = [...first, ...stay];
    const old = contents[0]!;
    await node.write(0, old);
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
        };
        await prune(store, gone);
        expect(isSame(await store.restored(await store.repository(), made!), old), `made at ${at}`).toBe(
          true,
        );
        const repository = await store.repository();
        await sweep(repository);
        expect(await verify(repository)).toMatchObject({ backups: 1, broken: [], damaged: [] });
      },
    );
  },
  LONG_MS,
);

test(
  "a backup that is killed at any operation harms nothing, and leaves nothing after a prune",
  async () => {
    const store = await bench();
    const { stay, contents, node } = await threeToKeep(store);
    const noise = new Random(3).bytes(CHUNK);
    const create = async (pid: number): Promise<unknown> => {
      await node.write(0, noise);
      return store.backup(await store.repository(pid), node, stay.at(-1));
    };
    await atEveryOperation(
      store,
      () => create(1),
      async (at) => {
        await killAt(store, at, () => create(77));
        const repository = await store.repository();
        await sweep(repository);
        expect([5, 6]).toContain((await repository.backups()).length);
        for (const [index, backup] of stay.entries())
          expect(isSame(await store.restored(repository, backup), contents[index]!), `killed at ${at}`).toBe(
            true,
          );
        expect(await verify(repository)).toMatchObject({ broken: [], damaged: [] });
      },
    );
  },
  LONG_MS,
);

test("damage is told: which backup, which chunk, which pack", async () => {
  const store = await bench();
  const { stay } = await threeToKeep(store);
  const repository = await store.repository();
  const whole = new Map(store.objects.all);
  const random = new Random(4);
  for (const name of store.objects.packs) {
    for (let round = 0; round < 12; round += 1) {
      const bytes = whole.get(name)!.slice();
      bytes[random.integer(0, bytes.length - 1)]! ^= 1 << random.integer(0, 7);
      store.objects.all.set(name, bytes);
      const verdict = await verify(repository);
      expect(verdict.broken.length + verdict.damaged.length).toBeGreaterThan(0);
      for (const { problem } of verdict.broken)
        expect(problem).toMatch(/^backup \S+: chunk [0-9a-f]{64} |^chunk [0-9a-f]{64} /);
      for (const { object } of verdict.damaged) expect(object).toBe(name);
    }
    store.objects.all.delete(name);
    const { broken } = await verify(repository);
    for (const { problem } of broken) expect(problem).toMatch(/chunk [0-9a-f]{64} is missing/);
    // What is needed can't be told: nothing goes.
    if (broken.length > 0) await expect(sweep(repository)).rejects.toThrow(/missing/);
    store.objects.all.set(name, whole.get(name)!);
  }
  for (const [a, b] of [[0, 1]] as const) {
    const [one, other] = [store.objects.packs[a]!, store.objects.packs[b]!];
    store.objects.all.set(one, whole.get(other)!);
    expect((await verify(repository)).broken.length).toBeGreaterThan(0);
    store.objects.all.set(one, whole.get(one)!);
  }
  expect((await verify(repository)).broken).toEqual([]);
  const description = `backups/${stay[0]!.id}.json`;
  const text = new TextDecoder().decode(whole.get(description));
  store.objects.all.set(description, new TextEncoder().encode(text.replace('"size":', '"size":1')));
  expect(await verify(repository)).toMatchObject({
    damaged: [{ object: description, problem: `'${description}' is damaged: it is not what was written` }],
  });
});

test("a directory that holds something else is no repository", async () => {
  const store = await bench();
  store.objects.all.set("repository.json", new TextEncoder().encode('{"format":"restic"}'));
  await expect(store.repository()).rejects.toThrow(
    "'repository.json' is not that of a repository of backups",
  );
  store.objects.all.set(
    "repository.json",
    new TextEncoder().encode('{"format":"blockwright-chunks","version":3}'),
  );
  await expect(store.repository()).rejects.toThrow("is of a kind that is not known here");
});
