// Chunks as patches: what file systems move by whole blocks costs what is new of it, and nothing that a patch needs is ever removed or lost
// unnoticed.
import { expect, onTestFinished, test } from "vitest";
import { restoreBackup } from "../../../src/api/restore-backup.ts";
import type { Backup } from "../../../src/store/description.ts";
import { Codec, readNotes } from "../../../src/store/pack.ts";
import { MAX_BASES, encodePatch, parsePatch } from "../../../src/store/patch.ts";
import type { Repository } from "../../../src/store/repository.ts";
import { sweep } from "../../../src/store/sweep.ts";
import { verify } from "../../../src/store/verify.ts";
import { Bench, isSame, Random } from "./support.ts";

const CHUNK = 65536;
const BLOCK = 4096;
const CHUNKS = 32;

async function bench(): Promise<{ store: Bench; repository: Repository }> {
  const store = new Bench();
  onTestFinished(() => store.engine.close());
  return { store, repository: await store.repository() };
}

async function keep(store: Bench, content: Uint8Array): Promise<Backup> {
  const node = await store.disk(content.byteLength);
  await node.write(0, content.slice());
  return store.backup(await store.repository(), node);
}

/** A disk, and what it is when three blocks more lie before most of it. */
function moved(seed: number): { before: Uint8Array; after: Uint8Array } {
  const random = new Random(seed);
  const before = random.bytes(CHUNKS * CHUNK);
  const after = before.slice();
  after.copyWithin(8 * BLOCK, 5 * BLOCK, after.byteLength - 3 * BLOCK);
  after.set(random.bytes(3 * BLOCK), 5 * BLOCK);
  return { before, after };
}

/** The codecs of all blobs. */
async function codecs(repository: Repository): Promise<number[]> {
  const { packs } = await repository.index(() => undefined);
  return packs.flatMap((pack) => Array.from({ length: pack.blobs }, (_, at) => pack.place(at).codec));
}

const patchesIn = async (repository: Repository): Promise<number> =>
  (await codecs(repository)).filter((codec) => codec === Codec.patch).length;

test("what moved by whole blocks costs what is new, each chunk being a patch of two", async () => {
  const { store, repository } = await bench();
  const { before, after } = moved(1);
  await keep(store, before);
  const made = await keep(store, after);
  expect(await patchesIn(repository)).toBe(CHUNKS);
  // The three blocks, and for each chunk two names, a map, and a place in the list.
  expect(made.storedBytes).toBeLessThan(3 * BLOCK + CHUNKS * (2 * 32 + 4 + 2 * 16) + 2048);
  expect(isSame(await store.restored(repository, made), after)).toBe(true);
  expect(await verify(repository)).toMatchObject({ backups: 2, broken: [], damaged: [] });
});

test("blocks that lie twice on one disk are there once", async () => {
  const { store, repository } = await bench();
  // More than is under way at once.
  const content = new Random(2).bytes(8 * CHUNKS * CHUNK);
  const half = content.byteLength / 2;
  content.copyWithin(half + BLOCK, 0, half - BLOCK);
  const made = await keep(store, content);
  expect(made.storedBytes).toBeLessThan(0.6 * content.byteLength);
  expect(isSame(await store.restored(repository, made), content)).toBe(true);
});

test("what patches are made of outlives the backup it came with", async () => {
  const { store, repository } = await bench();
  const { before, after } = moved(3);
  const first = await keep(store, before);
  const made = await keep(store, after);
  await repository.forget(first);
  const turns = [() => sweep(repository), () => sweep(repository)];
  for (const turn of turns) {
    await turn();
    expect(isSame(await store.restored(repository, made), after)).toBe(true);
  }
  expect(await verify(repository)).toMatchObject({ backups: 1, broken: [], damaged: [] });
  await repository.forget(made);
  await sweep(repository);
  expect(store.objects.packs).toEqual([]);
});

test("a patch that nobody needs, and a later backup finds, is whole", async () => {
  const { store, repository } = await bench();
  const { before, after } = moved(4);
  const more = new Random(5).bytes(2 * CHUNKS * CHUNK);
  const both = new Uint8Array(after.byteLength + more.byteLength);
  both.set(after);
  both.set(more, after.byteLength);
  const gone = [await keep(store, before), await keep(store, both)];
  // Its pack stays for the rest of it, with the patches.
  const stays = await keep(store, more);
  for (const backup of gone) await repository.forget(backup);
  await sweep(repository);
  expect(await patchesIn(repository)).toBe(CHUNKS);
  const again = await keep(store, after);
  expect(isSame(await store.restored(repository, again), after)).toBe(true);
  expect(isSame(await store.restored(repository, stays), more)).toBe(true);
});

test("what is moved into other packs is still known by its blocks, and as patches", async () => {
  const { store, repository } = await bench();
  const { before, after } = moved(6);
  const noise = new Random(7).bytes(4 * CHUNKS * CHUNK);
  const all = new Uint8Array(before.byteLength + noise.byteLength);
  all.set(before);
  all.set(noise, before.byteLength);
  const gone = await keep(store, all);
  const [pack] = store.objects.packs;
  const made = await keep(store, after);
  await repository.forget(gone);
  await sweep(repository);
  expect(store.objects.packs).not.toContain(pack);
  const { packs } = await repository.index(() => undefined);
  const notes = await Promise.all(packs.map((one) => readNotes(repository.tools, one)));
  const noted = notes.flat();
  expect(noted.filter(({ blocks }) => blocks?.length === 16).length).toBe(CHUNKS);
  expect(noted.filter(({ bases }) => bases).length).toBe(CHUNKS);
  expect(isSame(await store.restored(repository, made), after)).toBe(true);
});

test.each(["missing", "torn"])("where the bases are %s, the same chunks are stored whole", async (how) => {
  const { store, repository } = await bench();
  const { before, after } = moved(8);
  await keep(store, before);
  const [lost] = store.objects.packs;
  const broken = await keep(store, after);
  if (how === "missing") store.objects.all.delete(lost!);
  else store.objects.all.set(lost!, store.objects.all.get(lost!)!.subarray(0, 1000));
  await expect(store.restored(repository, broken)).rejects.toThrow("is missing");
  await expect(sweep(repository)).rejects.toThrow(how === "missing" ? "is missing" : "is damaged");
  const again = await keep(store, after);
  expect(isSame(await store.restored(repository, again), after)).toBe(true);
});

test.each([false, true])(
  "what patches are made of is taken from a seed that has it (spoilt: %s)",
  async (isSpoilt) => {
    const { store, repository } = await bench();
    const { before, after } = moved(10);
    await keep(store, before);
    const made = await keep(store, after);
    await using target = await store.disk(after.byteLength);
    await using seed = await store.disk(before.byteLength);
    await seed.write(0, before.slice());
    let bases = 0;
    store.objects.before = async (_count, op, name) => {
      if (op !== "get" || !name.startsWith("packs/")) return;
      if (name === store.objects.packs[0]) bases += 1;
      // It is somebody else's disk by now.
      else if (isSpoilt) await seed.write(0, new Uint8Array(before.byteLength));
    };
    const index = await repository.index(() => undefined);
    const lists = bases;
    expect(index.packs.length).toBe(2);
    await restoreBackup(repository, { backup: made, target, seeds: [seed] });
    expect(isSame(await target.read(0, after.byteLength), after)).toBe(true);
    if (isSpoilt) expect(bases).toBeGreaterThan(2 * lists);
    else expect(bases).toBe(2 * lists);
  },
);

test("a backup over another reads the list of each pack once, and notes where a chunk is new", async () => {
  const { store, repository } = await bench();
  await using node = await store.disk(CHUNKS * CHUNK);
  await node.write(0, new Random(11).bytes(CHUNKS * CHUNK));
  const first = await store.backup(repository, node);
  const [pack] = store.objects.packs;
  const got: number[] = [];
  const { get } = store.objects;
  store.objects.get = (name, range) => {
    if (name === pack) got.push(range!.offset);
    return get.call(store.objects, name, range);
  };
  const { packs } = await repository.index(() => undefined);
  const [list] = got.splice(0);
  const second = await store.backup(repository, node, first);
  const of = (offset: number): number => got.filter((one) => one === offset).length;
  const notes = packs[0]!.notes!.offset;
  expect([of(list!), of(notes)]).toEqual([1, 0]);
  got.splice(0);
  await node.write(5 * CHUNK, new Random(12).bytes(CHUNK));
  await store.backup(repository, node, second);
  expect([of(list!), of(notes)]).toEqual([1, 1]);
});

test("a repository of before has no patches, and gets none", async () => {
  const { store } = await bench();
  const settings = { format: "blockwright-chunks", version: 1, "chunk-bytes": CHUNK };
  store.objects.all.set("repository.json", new TextEncoder().encode(JSON.stringify(settings)));
  const { before, after } = moved(9);
  const first = await keep(store, before);
  const second = await keep(store, after);
  const repository = await store.repository();
  expect(new Set(await codecs(repository))).toEqual(new Set([Codec.none]));
  await repository.forget(first);
  await sweep(repository);
  const { packs } = await repository.index(() => undefined);
  expect(packs.map(({ notes }) => notes)).toEqual([undefined]);
  expect(isSame(await store.restored(repository, second), after)).toBe(true);
});

test("a patch is what was written, and anything else is refused", () => {
  const bases = [new Random(1).bytes(32), new Random(2).bytes(32)];
  const sources = Array.from({ length: 16 }, (_, at) => (at < 3 ? undefined : { base: at % 2, block: at }));
  const stored = encodePatch({ bases, sources, codec: Codec.none, rest: new Uint8Array(3 * BLOCK) });
  const patch = parsePatch(stored, CHUNK);
  expect(patch.sources).toEqual(sources);
  expect(patch.bases.map((base) => [...base])).toEqual(bases.map((base) => [...base]));
  expect(patch.rest.byteLength).toBe(3 * BLOCK);
  const spoilt = (at: number, byte: number): Uint8Array => {
    const copy = stored.slice();
    copy[at] = byte;
    return copy;
  };
  const map = 4 + 2 * 32;
  const wrong = [
    spoilt(0, MAX_BASES + 1),
    spoilt(2, 15),
    spoilt(map + 2 * 3 + 1, 2),
    stored.subarray(0, map + 31),
  ];
  for (const bytes of [...wrong, new Uint8Array()])
    expect(() => parsePatch(bytes, CHUNK)).toThrow("a patch is malformed");
});
