/**
 * A place for backups that is a repository of chunks.
 */
import { type BackupSource, createBackup } from "../../../api/backups.ts";
import { custom } from "../../../api/builders.ts";
import { openNodeIn } from "../../../api/open.ts";
import { restoreBackup } from "../../../api/restore-backup.ts";
import { blockError, errnoOf, messageOf } from "../../../base/errors.ts";
import { closing, failed, asyncDispose } from "../../../base/lease.ts";
import { MiB } from "../../../base/limits.ts";
import type { ObjectPlace } from "../../../base/objects.ts";
import type { Node } from "../../../node.ts";
import type { Backup } from "../../../store/description.ts";
import { Holder } from "../../../store/holders.ts";
import { BackupReader } from "../../../store/reader.ts";
import { Repository, SETTINGS } from "../../../store/repository.ts";
import { type Keep, divide } from "../../../store/retention.ts";
import { newName } from "../../../store/tools.ts";
import { sweep } from "../../../store/sweep.ts";
import { type Verdict, verify } from "../../../store/verify.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import { backupDisk } from "./disk.ts";
import type { BackupPlace, OpenBackup, Opening, Pruned, Watcher } from "./place.ts";

/** Opens it; with `create` makes it in a directory that is empty or not there. */
export async function openChunks(opening: Opening): Promise<BackupPlace> {
  const { tools, objects, create, watcher } = opening;
  const isNew = create && (await objects.isEmpty());
  const repository = await Repository.open(tools, { create: isNew }).catch(async (error: unknown) => {
    throw errnoOf(error) === "ENOENT" ? await noneHere(opening, error) : error;
  });
  return new ChunkPlace({ repository, objects, watcher, verb: opening.verb });
}

/** What there is instead of a repository. */
async function noneHere({ objects, create, directory }: Opening, error: unknown): Promise<Error> {
  const refusal = (words: string): Error => blockError("ENOENT", "repository", words);
  const [packs, backups] = [await objects.list("packs/"), await objects.list("backups/")];
  if (packs.length > 0) return refusal(`its '${SETTINGS}' is missing, which is as in any other repository`);
  if (backups.length > 0) return refusal(`it is a chain of images: --repo chain:${directory}`);
  return refusal(`${messageOf(error)}${create ? ", and one is made in an empty directory only" : ""}`);
}

class ChunkPlace implements BackupPlace {
  readonly #repository: Repository;
  readonly #objects: ObjectPlace;
  readonly #watcher: Watcher;
  readonly #verb: Run;

  constructor(init: { repository: Repository; objects: ObjectPlace; watcher: Watcher; verb: Run }) {
    this.#verb = init.verb;
    this.#repository = init.repository;
    this.#objects = init.objects;
    this.#watcher = init.watcher;
  }

  backups(): Promise<Backup[]> {
    return this.#repository.backups(this.#watcher.onDamage);
  }

  find(word: string): Promise<Backup> {
    return this.#repository.find(word, this.#watcher.onDamage);
  }

  create(source: BackupSource): Promise<Backup> {
    return createBackup(this.#repository, source, this.#watcher);
  }

  newId(): string {
    return newName(this.#repository.tools);
  }

  restore(backup: Backup, target: Node, seeds: readonly Node[]): Promise<number> {
    return restoreBackup(this.#repository, { backup, target, seeds }, this.#watcher);
  }

  async open(backup: Backup): Promise<OpenBackup> {
    const { tools } = this.#repository;
    const holder = await Holder.take(tools, `restore ${backup.id}`, { reads: true });
    const release = (): Promise<void> => holder.end();
    try {
      const index = await this.#repository.index(this.#watcher.onDamage, { withCondemned: true });
      const driver = `backup-${backup.id}`;
      const { engine } = this.#verb;
      const told = new Set<string>();
      const onError = (error: unknown): void => {
        const problem = messageOf(error);
        if (!told.has(problem)) this.#watcher.onDamage({ object: backup.id, problem });
        told.add(problem);
      };
      const reader = new BackupReader(tools, index, backup);
      engine.graph.register(backupDisk(driver, { reader, size: backup.size, onError }));
      const node = await openNodeIn(engine, custom(driver, { "read-only": true }));
      return { node, [asyncDispose]: () => closing(() => node.close(), release) };
    } catch (error) {
      return failed(error, release);
    }
  }

  async read(
    backup: Backup,
    { offset, end }: { offset: number; end: number },
    take: (piece: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const { tools } = this.#repository;
    await using _holder = await Holder.take(tools, `cat ${backup.id}`, { reads: true });
    const index = await this.#repository.index(this.#watcher.onDamage, { withCondemned: true });
    const reader = new BackupReader(tools, index, backup);
    for (let at = offset; at < end; at += MiB) {
      this.#watcher.signal.throwIfAborted();
      await take(await reader.read(at, Math.min(MiB, end - at)));
    }
  }

  verify(wanted: (backup: Backup) => boolean): Promise<Verdict> {
    return verify(this.#repository, wanted, this.#watcher);
  }

  async prune(keep: Keep | undefined, { dryRun }: { dryRun: boolean }): Promise<Pruned> {
    const all = await this.#repository.backups().catch(needsAHand);
    const { kept, removed } = divide(all, keep, { dryRun });
    if (dryRun) return { kept, removed, freedBytes: 0, isWaiting: false };
    for (const backup of removed) await this.#repository.forget(backup);
    const { removedBytes, waitingPacks } = await sweep(this.#repository).catch(needsAHand);
    await this.#objects.sweep();
    return { kept, removed, freedBytes: removedBytes, isWaiting: waitingPacks > 0 };
  }
}

/** What is damaged is not removed unasked. */
function needsAHand(error: unknown): never {
  if (errnoOf(error) !== "EIO") throw error;
  throw new Refusal(
    `${messageOf(error)}: what is needed can't be told, and no chunk was removed. 'backup verify' tells what is damaged; to give it up, remove its object ('backups/ID.json', a pack), and prune again`,
  );
}
