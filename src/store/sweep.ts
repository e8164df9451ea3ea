/**
 * Taking backups out, and then the packs that nobody needs any more, beside whoever makes and reads backups.
 *
 * Why nothing is lost: a maker or reader takes its place among the holders before it looks at the first pack, and does not rely on
 * packs that are condemned by then. We condemn first, and look who is at work afterwards: so whoever relies on a pack is seen,
 * and the pack stays for the next sweep. Packs of somebody who is at work are theirs. Packs are listed before holders, and
 * holders before descriptions: whoever is gone when we look has published what they made. Packs that are there only afterwards are left alone.
 */
import { blockError } from "../base/errors.ts";
import type { ObjectInfo } from "../base/objects.ts";
import { ChunkIndex } from "./chunk-index.ts";
import type { Backup } from "./description.ts";
import { Holder, livingHolders } from "./holders.ts";
import { Needs } from "./needs.ts";
import { type PackIndex, readPack } from "./pack.ts";
import { BackupReader } from "./reader.ts";
import { PACKS, type Repository } from "./repository.ts";
import { hex, type StoreTools } from "./tools.ts";
import { BlobWriter } from "./writer.ts";

/** What a sweep did. */
export interface Swept {
  readonly removedPacks: number;
  readonly removedBytes: number;
  /** Packs that go as soon as nobody who is at work now can need them. */
  readonly waitingPacks: number;
}

interface Found {
  readonly info: ObjectInfo;
  readonly pack: PackIndex;
}

/**
 * Removes what no backup needs. Throws EIO where a backup or a pack is damaged: what is needed can't be told then, and all
 * of it stays.
 */
export async function sweep(repository: Repository): Promise<Swept> {
  const { tools } = repository;
  await using holder = await Holder.take(tools, "prune");
  const condemned = new Set(await repository.condemned());
  const packs = await readPacks(tools);
  // A sweep that was killed between the two.
  for (const name of condemned)
    if (!packs.some(({ pack }) => pack.name === name)) await repository.acquit(name);
  const living = await livingHolders(tools, holder.id);
  const backups = await repository.backups();
  // Of who was seen at no time, and has published.
  const later = await readPacks(tools, new Set(packs.map(({ pack }) => pack.name)));
  const index = new ChunkIndex();
  const all = [...packs, ...later].map(({ pack }) => pack);
  index.add(all.filter(({ name }) => !condemned.has(name)));
  index.add(all.filter(({ name }) => condemned.has(name)));
  const needs = await Needs.load(tools, index, await neededBlobs(tools, index, backups));
  const { kept, doomed } = needs.divide(
    (pack) =>
      later.some((found) => found.pack === pack) ||
      [...living.keys()].some((id) => pack.name.startsWith(`${PACKS}${id}-`)),
  );
  for (const { name } of kept) await repository.acquit(name);
  const writer = new BlobWriter({ tools, index: new ChunkIndex(), holder, patches: false });
  for (const pack of doomed) await needs.move(pack, writer, { notes: repository.hasPatches });
  await writer.flush();
  for (const { name } of doomed) await repository.condemn(name);
  const rest = await livingHolders(tools, holder.id);
  // Who came and went meanwhile has published something that may need what is condemned.
  const known = new Set(backups.map(({ id }) => id));
  const isAlone = rest.size === 0 && (await repository.backups()).every(({ id }) => known.has(id));
  if (!isAlone) return { removedPacks: 0, removedBytes: 0, waitingPacks: doomed.length };
  for (const { name } of doomed) {
    await tools.objects.remove(name);
    await repository.acquit(name);
  }
  const bytesOf = new Map(packs.map(({ info, pack }) => [pack.name, info.bytes]));
  const removedBytes = doomed.reduce((sum, { name }) => sum + bytesOf.get(name)!, 0);
  return { removedPacks: doomed.length, removedBytes, waitingPacks: 0 };
}

/** The packs that there are, but for some. */
async function readPacks(tools: StoreTools, known: ReadonlySet<string> = new Set()): Promise<Found[]> {
  const found: Found[] = [];
  for (const info of await tools.objects.list(PACKS))
    if (!known.has(info.name)) found.push({ info, pack: await readPack(tools, info) });
  return found;
}

/** The hashes of all that the backups consist of. Throws where one of it is missing. */
async function neededBlobs(
  tools: StoreTools,
  index: ChunkIndex,
  backups: readonly Backup[],
): Promise<Set<string>> {
  const needed = new Set<string>();
  const need = (hash: Uint8Array): void => void needed.add(hex(hash));
  for (const backup of backups) {
    for await (const { hash } of new BackupReader(tools, index, backup).chunks(need)) {
      if (!index.has(hash))
        throw blockError("EIO", "prune", `backup ${backup.id}: chunk ${hex(hash)} is missing`);
      need(hash);
    }
  }
  return needed;
}
