/**
 * Taking backups out, and then the packs that nobody needs any more, beside whoever makes and reads backups.
 *
 * Why nothing is lost: a maker or reader takes its place among the holders before it looks at the first pack, and does not rely on
 * packs that are condemned by then. We condemn first, and look who is at work afterwards: so whoever relies on a pack is seen,
 * and the pack stays for the next sweep. Packs of somebody who is at work are theirs. Packs are listed before holders, and
 * holders before descriptions: whoever is gone when we look has published what they made.
 */
import { blockError } from "../base/errors.ts";
import type { ObjectInfo } from "../base/objects.ts";
import { readBlob } from "./blobs.ts";
import { ChunkIndex } from "./chunk-index.ts";
import type { Backup } from "./description.ts";
import { Holder, livingHolders } from "./holders.ts";
import { type PackIndex, readPack } from "./pack.ts";
import { BackupReader } from "./reader.ts";
import { PACKS, type Repository } from "./repository.ts";
import { hex, type StoreTools } from "./tools.ts";
import { BlobWriter } from "./writer.ts";

/** A pack of which less than this share is needed is written anew. */
const WORTH_KEEPING = 0.5;

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
  const index = new ChunkIndex();
  const all = packs.map(({ pack }) => pack);
  index.add(all.filter(({ name }) => !condemned.has(name)));
  index.add(all.filter(({ name }) => condemned.has(name)));
  const needed = await neededBlobs(tools, index, backups);
  const isTheirs = ({ pack }: Found): boolean =>
    [...living.keys()].some((id) => pack.name.startsWith(`${PACKS}${id}-`));
  const ours = packs.filter((found) => !isTheirs(found));
  const doomed: Found[] = [];
  const writer = new BlobWriter({ tools, index: new ChunkIndex(), holder });
  for (const found of ours) {
    const use = usedOf(found.pack, index, needed);
    if (use.share >= WORTH_KEEPING) {
      await repository.acquit(found.pack.name);
      continue;
    }
    for (const hash of use.hashes) await writer.write(await readBlob(tools, index, hash));
    doomed.push(found);
  }
  await writer.flush();
  for (const { pack } of doomed) await repository.condemn(pack.name);
  const rest = await livingHolders(tools, holder.id);
  // Who came and went meanwhile has published something that may need what is condemned.
  const known = new Set(backups.map(({ id }) => id));
  const isAlone = rest.size === 0 && (await repository.backups()).every(({ id }) => known.has(id));
  if (!isAlone) return { removedPacks: 0, removedBytes: 0, waitingPacks: doomed.length };
  for (const { pack } of doomed) {
    await tools.objects.remove(pack.name);
    await repository.acquit(pack.name);
  }
  const removedBytes = doomed.reduce((sum, { info }) => sum + info.bytes, 0);
  return { removedPacks: doomed.length, removedBytes, waitingPacks: 0 };
}

async function readPacks(tools: StoreTools): Promise<Found[]> {
  const found: Found[] = [];
  for (const info of await tools.objects.list(PACKS)) found.push({ info, pack: await readPack(tools, info) });
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

/** What of a pack is needed and found nowhere else, and its share of the pack's bytes. */
function usedOf(
  pack: PackIndex,
  index: ChunkIndex,
  needed: ReadonlySet<string>,
): { share: number; hashes: Uint8Array[] } {
  const hashes: Uint8Array[] = [];
  let [used, all] = [0, 0];
  for (let at = 0; at < pack.count; at += 1) {
    const { storedBytes } = pack.place(at);
    all += storedBytes;
    const hash = pack.hash(at);
    if (!needed.has(hex(hash)) || index.find(hash)?.pack !== pack.name) continue;
    used += storedBytes;
    hashes.push(hash);
  }
  return { share: all === 0 ? 0 : used / all, hashes };
}
