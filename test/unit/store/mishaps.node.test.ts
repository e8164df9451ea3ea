// What happens to a repository of backups from outside: clocks that jump, hosts that are silent, packs that are lost between two backups.
import { expect, onTestFinished, test } from "vitest";
import { createBackup } from "../../../src/api/backups.ts";
import type { Backup } from "../../../src/store/description.ts";
import { Holder, livingHolders } from "../../../src/store/holders.ts";
import { BackupReader } from "../../../src/store/reader.ts";
import { kept } from "../../../src/store/retention.ts";
import { sweep } from "../../../src/store/sweep.ts";
import { verify } from "../../../src/store/verify.ts";
import { Bench, isSame, Random } from "./support.ts";

const MiB = 2 ** 20;
const HOUR = 3600_000;

async function bench(): Promise<Bench> {
  const made = new Bench();
  onTestFinished(() => made.engine.close());
  return made;
}

test("the backup that was made last is the latest, and stays, whatever the clock said", async () => {
  const store = await bench();
  const repository = await store.repository();
  const node = await store.disk(MiB);
  const times = ["2026-11-01", "2099-01-01", "2026-11-02", "1970-01-01"].map((day) => `${day}T02:00:00.000Z`);
  const made: Backup[] = [];
  for (const time of times) made.push(await store.backup(repository, node, made.at(-1), time));
  expect((await repository.backups()).map(({ time }) => time)).toEqual(times);
  expect((await repository.find("latest")).id).toBe(made[3]!.id);
  expect((await repository.find("disk@latest")).id).toBe(made[3]!.id);
  const stays = (keep: object): number[] =>
    [...kept(made, keep).keys()].map((backup) => made.indexOf(backup)).toSorted((a, b) => a - b);
  expect(stays({ last: 1 })).toEqual([3]);
  expect(stays({ daily: 2 })).toEqual([2, 3]);
  // Those of before there were numbers are older.
  const { number: _, ...old } = made[1]!;
  expect([...kept([old, made[0]!], { last: 1 }).keys()]).toEqual([made[0]]);
});

/** A place that somebody took and does not renew. */
async function silentFor(store: Bench, ms: number, who: object): Promise<string> {
  const holder = await Holder.take(store.tools(), "create x");
  const name = `holders/${holder.id}`;
  const told = { ...store.tools(9).self, what: "create x", ...who };
  store.objects.all.set(name, new TextEncoder().encode(JSON.stringify(told)));
  store.objects.touched.set(name, Date.now() - ms);
  onTestFinished(() => holder.end());
  return holder.id;
}

test.each([
  ["a process here that lives, silent for a week", 168 * HOUR, {}, true],
  ["a process here from tomorrow", -24 * HOUR, {}, true],
  ["a process here whose number is another one's by now", 0, { start: "2" }, false],
  ["another host, silent for 23 hours", 23 * HOUR, { host: "there", machine: "its boot" }, true],
  ["another host, silent for 25 hours", 25 * HOUR, { host: "there", machine: "its boot" }, false],
  ["a container here, silent for half an hour", HOUR / 2, { machine: "its boot" }, true],
  ["an earlier boot of this host, two hours ago", 2 * HOUR, { machine: "its boot" }, false],
  ["an older program here, silent for a minute", HOUR / 60, { machine: undefined }, true],
])("%s", async (_what, ms, who, lives) => {
  const store = await bench();
  const id = await silentFor(store, ms, who);
  await using own = await Holder.take(store.tools(), "prune");
  const living = await livingHolders(store.tools(), own.id);
  expect([...living.keys()]).toEqual(lives ? [id] : []);
  if (lives) expect(living.get(id)).toMatch(/^create x, process 9 of (here|there)$/);
  expect(store.objects.all.has(`holders/${id}`)).toBe(lives);
});

test("the clock that counts is that of whoever keeps the objects", async () => {
  const store = await bench();
  const id = await silentFor(store, -30 * HOUR, { host: "there", machine: "its boot" });
  await using own = await Holder.take(store.tools(), "prune");
  // There it is 31 hours later than here.
  store.objects.touched.set(`holders/${own.id}`, Date.now() + 31 * HOUR);
  expect([...(await livingHolders(store.tools(), own.id)).keys()]).toEqual([id]);
});

test("a run that was taken for dead publishes nothing", async () => {
  const store = await bench();
  const repository = await store.repository();
  const node = await store.disk(MiB);
  await node.write(0, new Random(1).bytes(65536));
  store.objects.before = (_count, op, name) => {
    if (op !== "put" || !name.startsWith("packs/")) return;
    for (const holder of store.objects.all.keys())
      if (holder.startsWith("holders/")) store.objects.all.delete(holder);
  };
  await expect(store.backup(repository, node)).rejects.toThrow(
    "others have taken this run for one that died, and may have removed what it needs: nothing is published",
  );
  store.objects.before = () => undefined;
  expect(await repository.backups()).toEqual([]);
});

test.each(["missing", "torn"])(
  "over a backup of which a pack is %s the next one is a full one, and whole",
  async (how) => {
    const store = await bench();
    const repository = await store.repository();
    const node = await store.disk(9 * MiB);
    const random = new Random(5);
    await node.write(0, random.bytes(9 * MiB));
    const first = await store.backup(repository, node);
    const [lost] = store.objects.packs;
    await node.write(MiB, random.bytes(512));
    if (how === "missing") store.objects.all.delete(lost!);
    else store.objects.all.set(lost!, store.objects.all.get(lost!)!.subarray(0, 1000));
    const told: string[] = [];
    const changed = (): [] => [];
    const made = await createBackup(
      repository,
      { node, name: "disk", image: "disk", since: { backup: first, changed } },
      { onDamage: ({ problem }) => void told.push(problem) },
    );
    expect(made).toMatchObject({ kind: "full", number: 2, readBytes: 9 * MiB });
    expect(told.at(-1)).toMatch(
      /^backup \S+ is not whole any more \(.*chunk [0-9a-f]{64} is missing\): this is a full backup$/,
    );
    expect(isSame(await store.restored(repository, made), await node.read(0, node.length))).toBe(true);
    // The older one is whole again by the chunks that the disk still had, or not at all.
    const { broken } = await verify(repository);
    expect(broken.map(({ id }) => id)).toEqual([first.id]);
    if (how === "torn") store.objects.all.delete(lost!);
    await repository.forget(first);
    await sweep(repository);
    expect(await verify(repository)).toMatchObject({ backups: 1, broken: [], damaged: [] });
  },
);

test("a disk that is read piece by piece has each node of its tree read once, and again after an error", async () => {
  const store = await bench();
  const repository = await store.repository();
  const node = await store.disk(8 * MiB);
  const content = new Random(9).bytes(8 * MiB);
  await node.write(0, content);
  const backup = await store.backup(repository, node);
  const index = await repository.index(() => undefined);
  const reader = new BackupReader(repository.tools, index, backup);
  const [leaf] = [...(await reader.leaves()).leaves()];
  let [gets, failures] = [0, 1];
  const { offset } = index.require(leaf!.hash);
  const { get } = store.objects;
  store.objects.get = async (...args: Parameters<typeof get>) => {
    if (args[1]?.offset === offset) {
      gets += 1;
      if (failures-- > 0) throw new Error("the cable was out");
    }
    return get.apply(store.objects, args);
  };
  await expect(reader.read(0, 512)).rejects.toThrow("the cable was out");
  for (let at = 0; at < 4 * MiB; at += MiB / 8) {
    expect(isSame(await reader.read(at, 512), content.subarray(at, at + 512))).toBe(true);
    expect(await reader.extent(at, 512)).toEqual({ data: true, bytes: 512 });
  }
  expect(gets).toBe(2);
});
