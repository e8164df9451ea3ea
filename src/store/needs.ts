/**
 * Which blobs a prune has to leave: what backups consist of, and the bases of every patch that stays, needed or not, since a later backup
 * may find that patch and rely on it.
 */
import { blockError, messageOf } from "../base/errors.ts";
import { noteOf } from "./block-table.ts";
import { BlobReader } from "./blobs.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import { Codec, type PackIndex, readNotes } from "./pack.ts";
import type { Damage } from "./repository.ts";
import { askEach, hex, isSame, type StoreTools } from "./tools.ts";
import type { BlobWriter } from "./writer.ts";

/** A pack of which less than this share is needed is written anew. */
const WORTH_KEEPING = 0.5;

/** A patch in a pack. */
interface Patched {
  readonly hash: Uint8Array;
  readonly bases: readonly Uint8Array[];
}

/** What is needed of packs. */
export class Needs {
  readonly #index: ChunkIndex;
  readonly #tools: StoreTools;
  readonly #reader: BlobReader;
  readonly #needed: Set<string>;
  readonly #patches = new Map<PackIndex, readonly Patched[]>();

  private constructor(tools: StoreTools, index: ChunkIndex, needed: Set<string>) {
    this.#tools = tools;
    this.#index = index;
    this.#needed = needed;
    this.#reader = new BlobReader(tools, index);
  }

  /** `needed`: the hashes of what backups consist of; more come to it. Throws EIO for damaged packs. */
  static async load(tools: StoreTools, index: ChunkIndex, needed: Set<string>): Promise<Needs> {
    const needs = new Needs(tools, index, needed);
    for await (const [pack, patches] of askEach(index.packs, (one) => patchesOf(tools, one)))
      needs.#patches.set(pack, patches);
    return needs;
  }

  /** The packs that stay, and those of which what is needed has to be moved; packs of others are neither. Throws EIO where a base is missing. */
  divide(isOthers: (pack: PackIndex) => boolean): { kept: PackIndex[]; doomed: PackIndex[] } {
    const others = this.#index.packs.filter(isOthers);
    const ours = this.#index.packs.filter((pack) => !isOthers(pack));
    let kept: PackIndex[];
    let before: number;
    // Bases make more of other packs needed.
    do {
      before = this.#needed.size;
      kept = ours.filter((pack) => this.#isWorthKeeping(pack));
      const stay = new Set([...others, ...kept]);
      for (const pack of this.#index.packs) this.#needBases(pack, stay.has(pack));
    } while (this.#needed.size > before);
    return { kept, doomed: ours.filter((pack) => !kept.includes(pack)) };
  }

  /** Puts what is needed of a pack into another, as it is stored. */
  async move(pack: PackIndex, writer: BlobWriter, { notes }: { notes: boolean }): Promise<void> {
    for (const hash of this.#usedOf(pack).hashes) {
      const { place, stored, content } = await this.#reader.open(hash);
      const bases = this.#patches.get(pack)!.find((patch) => isSame(patch.hash, hash))?.bases;
      const note = bases ? { bases } : noteOf(content, this.#tools.xxh3);
      const { codec, contentBytes } = place;
      await writer.put({ hash, stored, contentBytes, codec, note: notes ? note : undefined });
    }
  }

  /** What a pack's patches are made of, of all or of those that are used. */
  #needBases(pack: PackIndex, all: boolean): void {
    for (const { hash, bases } of this.#patches.get(pack)!)
      if (all || this.#isUsed(pack, hash)) for (const base of bases) this.#needed.add(hex(base));
  }

  /** A pack with a patch that has lost a base is never kept. */
  #isWorthKeeping(pack: PackIndex): boolean {
    const isReadable = this.#patches
      .get(pack)!
      .every(({ bases }) => bases.every((base) => isWhole(this.#index, base)));
    return isReadable && this.#usedOf(pack).share >= WORTH_KEEPING;
  }

  #isUsed(pack: PackIndex, hash: Uint8Array): boolean {
    return this.#needed.has(hex(hash)) && this.#index.find(hash)?.pack === pack.name;
  }

  /** What of a pack is needed and found nowhere else, and its share of the pack's bytes. */
  #usedOf(pack: PackIndex): { share: number; hashes: Uint8Array[] } {
    const hashes: Uint8Array[] = [];
    let [used, all] = [0, 0];
    for (let at = 0; at < pack.blobs; at += 1) {
      const { storedBytes } = pack.place(at);
      all += storedBytes;
      const hash = pack.hash(at);
      if (!this.#isUsed(pack, hash)) continue;
      used += storedBytes;
      hashes.push(hash);
    }
    return { share: all === 0 ? 0 : used / all, hashes };
  }
}

/** The patches of a pack. Throws EIO where it does not say what they are made of. */
async function patchesOf(tools: StoreTools, pack: PackIndex): Promise<Patched[]> {
  const patches = Array.from({ length: pack.blobs }, (_, at) => at).filter((at) => pack.isPatch(at));
  if (patches.length === 0) return [];
  const notes = await readNotes(tools, pack);
  return patches.map((at) => {
    const bases = notes[at]?.bases;
    if (!bases)
      throw blockError(
        "EIO",
        "pack",
        `'${pack.name}' is damaged: it does not say what blob ${at} is made of`,
      );
    return { hash: pack.hash(at), bases };
  });
}

/** Patches of which a base, or the pack's word on it, is lost are not there any more; tells of each pack with such. */
export async function disownBroken(
  tools: StoreTools,
  index: ChunkIndex,
  tell: (damage: Damage) => void,
): Promise<void> {
  const ask = (pack: PackIndex): Promise<Patched[] | string> => patchesOf(tools, pack).catch(messageOf);
  for await (const [pack, patches] of askEach(index.packs, ask)) {
    let problem: string | undefined;
    if (typeof patches === "string") {
      problem = patches;
      for (let at = 0; at < pack.blobs; at += 1) if (pack.isPatch(at)) index.disown(pack.hash(at));
    } else
      for (const { hash, bases } of patches) {
        if (bases.every((base) => isWhole(index, base))) continue;
        problem = `a chunk that others in '${pack.name}' are made of is missing`;
        index.disown(hash);
      }
    if (problem !== undefined) tell({ object: pack.name, problem });
  }
}

/** Whether a blob is there, and no patch. */
function isWhole(index: ChunkIndex, hash: Uint8Array): boolean {
  const codec = index.find(hash)?.codec;
  return codec !== undefined && codec !== Codec.patch;
}
