// A repository in memory: objects that can be counted, torn and taken away, and processes that live or not.
import { expect } from "vitest";
import { createHash } from "node:crypto";
import { type Node, addBitmap, clearBitmap, createEngine, openNode } from "../../../src/node.ts";
import { createBackup, dirtyIn } from "../../../src/api/backups.ts";
import { restoreBackup } from "../../../src/api/restore-backup.ts";
import { blockError, firstFailure } from "../../../src/base/errors.ts";
import type { ObjectInfo, ObjectStore } from "../../../src/base/objects.ts";
import type { Backup } from "../../../src/store/description.ts";
import { Repository } from "../../../src/store/repository.ts";
import { sweep } from "../../../src/store/sweep.ts";
import { randomness } from "../../support/random.ts";
import type { StoreTools } from "../../../src/store/tools.ts";

/** Objects in memory. */
export class MemoryObjects implements ObjectStore {
  all = new Map<string, Uint8Array>();
  /** Called before each operation, with its number and what it is. */
  before: (count: number, op: string, name: string) => Promise<void> | void = () => undefined;
  count = 0;
  /** When objects were touched, where that is not now, ms. */
  readonly touched = new Map<string, number>();

  async #begin(op: string, name: string): Promise<void> {
    this.count += 1;
    await this.before(this.count, op, name);
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<boolean> {
    await this.#begin("put", name);
    if (this.all.has(name)) return false;
    this.all.set(name, bytes.slice());
    return true;
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#begin("put", name);
    this.all.set(name, bytes.slice());
  }

  async get(name: string, range?: { offset: number; bytes: number }): Promise<Uint8Array> {
    await this.#begin("get", name);
    const bytes = this.all.get(name);
    if (!bytes) throw blockError("ENOENT", "get", `'${name}': no such object`);
    return range ? bytes.slice(range.offset, range.offset + range.bytes) : bytes.slice();
  }

  async list(prefix: string): Promise<ObjectInfo[]> {
    await this.#begin("list", prefix);
    const names = [...this.all.keys()].filter((name) => name.startsWith(prefix)).toSorted();
    return names.map((name) => {
      const changedMs = this.touched.get(name) ?? Date.now();
      return { name, bytes: this.all.get(name)!.byteLength, changedMs };
    });
  }

  async remove(name: string): Promise<void> {
    await this.#begin("remove", name);
    this.all.delete(name);
  }

  /** The names of the packs. */
  get packs(): string[] {
    return [...this.all.keys()].filter((name) => name.startsWith("packs/"));
  }
}

/** Everything that a test of the store needs; one process, whose number is `pid`. */
export class Bench {
  readonly objects = new MemoryObjects();
  readonly engine = createEngine({ warnUnflushed: false });
  readonly dead = new Set<number>();

  tools(pid = 1): StoreTools {
    const { host, kernels } = this.engine.graph;
    return {
      objects: this.objects,
      clock: host.clock,
      random: host.random,
      codecs: host.codecs,
      sha256: (bytes) => createHash("sha256").update(bytes).digest(),
      xxh3: (bytes) => kernels.xxh3(bytes),
      self: { host: "here", machine: "this boot", pid, start: "1" },
      isAlive: (one) => one.start === "1" && !this.dead.has(one.pid),
    };
  }

  repository(pid = 1): Promise<Repository> {
    return Repository.open(this.tools(pid), { create: true });
  }

  /** A disk in memory that records in bitmap `b`. */
  async disk(size: number): Promise<Node> {
    const node = await openNode({ driver: "memory", size }, { engine: this.engine });
    addBitmap(node, "b", { granularity: 65536 });
    return node;
  }

  /** A backup of the disk; an incremental one where `since` is given, as of `time`. The bitmap records anew. */
  async backup(repository: Repository, node: Node, since?: Backup, time?: string): Promise<Backup> {
    const changed = (): Iterable<{ offset: number; bytes: number }> => dirtyIn(node, "b");
    const compared = since ? { since: { backup: since, changed } } : {};
    const made = await createBackup(repository, { node, name: "disk", image: "disk", time, ...compared });
    clearBitmap(node, "b");
    return made;
  }

  /** What a backup restores to. */
  async restored(repository: Repository, backup: Backup): Promise<Uint8Array> {
    await using target = await openNode(
      { driver: "memory", size: Math.max(backup.size, 512) },
      { engine: this.engine },
    );
    await restoreBackup(repository, { backup, target });
    return await target.read(0, backup.size);
  }
}

/** Draws numbers and bytes by a seed. */
export class Random {
  readonly #below: (limit: number) => number;

  constructor(seed: number) {
    this.#below = randomness(seed);
  }

  /** From `least` to `most`, both included. */
  integer(least: number, most: number): number {
    return least + this.#below(most - least + 1);
  }

  bytes(count: number): Uint8Array {
    const words = Uint32Array.from({ length: Math.ceil(count / 4) }, () => this.#below(2 ** 32));
    return new Uint8Array(words.buffer, 0, count);
  }
}

/** Whether two arrays hold the same; expect() takes long over megabytes. */
export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** How many operations a body takes; 0 where it never came to its end. */
async function countOf(store: Bench, body: () => Promise<unknown>): Promise<number> {
  const before = store.objects.count;
  await body();
  return store.objects.count - before;
}

/** Takes backups out, and what only they need. */
export const prune = async (store: Bench, gone: readonly Backup[], pid = 1): Promise<void> => {
  const repository = await store.repository(pid);
  for (const backup of gone) await repository.forget(backup);
  await sweep(repository);
};

/** Runs `trial` before each operation of `body`, every time from the same repository; answers how many there were. */
export async function atEveryOperation(
  store: Bench,
  body: () => Promise<unknown>,
  trial: (at: number) => Promise<void>,
): Promise<number> {
  const begun = new Map(store.objects.all);
  const operations = await countOf(store, body);
  for (let at = 1; at <= operations; at += 1) {
    store.objects.all = new Map(begun);
    store.objects.count = 0;
    store.dead.clear();
    await trial(at);
    store.objects.before = () => undefined;
  }
  return operations;
}

/** Process 77 is killed before an operation. */
export async function killAt(store: Bench, at: number, body: () => Promise<unknown>): Promise<void> {
  store.objects.before = (count) => {
    if (count >= at) throw new Error("killed");
  };
  const outcome = await body().catch((error: unknown) => String(firstFailure(error)));
  // A pack that can't be read for this reason counts as damaged; who is killed when all is done but giving up its place has done it.
  if (typeof outcome === "string") expect(outcome).toMatch(/killed|is missing/);
  else expect([...store.objects.all.keys()].some((name) => name.startsWith("holders/"))).toBe(true);
  store.objects.before = () => undefined;
  store.dead.add(77);
}

/**
 * Prunes everything that is described, the backup's own base too, at every operation of a turn, by so many sweeps. Answers in how many of
 * them a backup was at work when the prune began; one that was ends well.
 */
export async function emptiedAtEveryOperation(
  store: Bench,
  turn: () => Promise<void>,
  sweeps = 1,
): Promise<number> {
  let guarded = 0;
  await atEveryOperation(store, turn, async (at) => {
    let isPruned = false;
    // Somebody was at work when it began.
    let isGuarded = true;
    store.objects.before = async (count) => {
      if (isPruned || count < at) return;
      isPruned = true;
      isGuarded = [...store.objects.all.keys()].some((name) => name.startsWith("holders/"));
      const repository = await store.repository(2);
      for (const backup of await repository.backups()) await repository.forget(backup);
      for (let i = 0; i < sweeps; i++) await sweep(repository);
    };
    try {
      await turn();
      if (isGuarded) guarded += 1;
    } catch (error) {
      // What it was to be compared with, or itself, went before anybody used it.
      if (isGuarded) throw error;
      expect(String(firstFailure(error))).toMatch(/is missing|no such object/);
    }
  });
  return guarded;
}
