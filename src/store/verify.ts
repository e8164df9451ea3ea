/**
 * Looking whether backups can be restored, without restoring them: every chunk of every backup is read once, and held against
 * its name.
 */
import { messageOf } from "../base/errors.ts";
import { BlobReader } from "./blobs.ts";
import { readNotes } from "./pack.ts";
import type { Backup } from "./description.ts";
import { Holder } from "./holders.ts";
import { BackupReader } from "./reader.ts";
import type { Damage, Repository } from "./repository.ts";
import { hex } from "./tools.ts";

/** What was looked at, and what is wrong. */
export interface Verdict {
  readonly backups: number;
  readonly chunks: number;
  /** Bytes of the chunks' contents. */
  readonly bytes: number;
  /** Backups that can't be restored whole, and why. */
  readonly broken: readonly { readonly id: string; readonly problem: string }[];
  /** Objects that are damaged, whether a backup needs them or not. */
  readonly damaged: readonly Damage[];
}

/** How it gets on. */
export interface VerifyOptions {
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Verifies the backups of a repository that `wanted` says; default: all. */
export async function verify(
  repository: Repository,
  wanted: (backup: Backup) => boolean = () => true,
  { onProgress, signal }: VerifyOptions = {},
): Promise<Verdict> {
  const { tools } = repository;
  await using _holder = await Holder.take(tools, "verify", { reads: true });
  const damaged: Damage[] = [];
  const tell = (damage: Damage): void => void damaged.push(damage);
  const backups = (await repository.backups(tell)).filter(wanted);
  const index = await repository.index(tell, { withCondemned: true });
  for (const pack of index.packs)
    await readNotes(tools, pack).catch((error: unknown) =>
      tell({ object: pack.name, problem: messageOf(error) }),
    );
  const blobs = new BlobReader(tools, index);
  const broken: { id: string; problem: string }[] = [];
  /** Chunks that were read, and what was wrong with them. */
  const seen = new Map<string, string | undefined>();
  let bytes = 0;
  const look = async (hash: Uint8Array): Promise<string | undefined> => {
    const name = hex(hash);
    if (seen.has(name)) return seen.get(name);
    const problem = await blobs.read(hash).then(
      (content) => void (bytes += content.byteLength),
      (error: unknown) => messageOf(error),
    );
    seen.set(name, problem ?? undefined);
    return problem ?? undefined;
  };
  for (const [at, backup] of backups.entries()) {
    let problem: string | undefined;
    try {
      for await (const { hash } of new BackupReader(tools, index, backup).chunks()) {
        signal?.throwIfAborted();
        problem ??= await look(hash);
      }
    } catch (error) {
      signal?.throwIfAborted();
      problem ??= messageOf(error);
    }
    if (problem !== undefined) broken.push({ id: backup.id, problem });
    onProgress?.(at + 1, backups.length);
  }
  // Of a place that has gone meanwhile nothing can be said.
  if (broken.length + damaged.length > 0) await repository.check();
  return { backups: backups.length, chunks: seen.size, bytes, broken, damaged };
}
