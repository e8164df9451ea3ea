/**
 * A repository of backups: packs of chunks that all of them share, and a description for each. Nothing in it changes: a backup is
 * there when its description is, and what a description needs is durable before.
 *
 * Objects: `repository.json`, `packs/…`, `backups/….json`, `holders/…` (who is at work), `condemned/…` (packs that nobody
 * needs, named by who removes them).
 */
import { blockError, errnoOf, messageOf } from "../base/errors.ts";
import { ChunkIndex } from "./chunk-index.ts";
import {
  type Backup,
  descriptionName,
  encodeDescription,
  findBackup,
  inOrder,
  parseDescription,
} from "./description.ts";
import type { ObjectInfo } from "../base/objects.ts";
import { type PackIndex, readPack } from "./pack.ts";
import { askEach, type StoreTools } from "./tools.ts";
import { CHUNK_BYTES } from "./tree.ts";

/** By this object a repository of chunks is known. */
export const SETTINGS = "repository.json";
const FORMAT = "blockwright-chunks";
/** Of those that are made; 1 has no patches, and never gets any. */
const VERSION = 2;
/** Packs and descriptions begin like this. */
export const PACKS = "packs/";
const BACKUPS = "backups/";
const CONDEMNED = "condemned/";

/** What is wrong with an object. */
export interface Damage {
  readonly object: string;
  readonly problem: string;
}

/** A repository that is open. It holds nothing. */
export class Repository {
  readonly tools: StoreTools;
  /** Whether its chunks may be patches of others: programs before 2 read none, and would remove the others. */
  readonly hasPatches: boolean;

  private constructor(tools: StoreTools, { version }: { version: number }) {
    this.tools = tools;
    this.hasPatches = version >= 2;
  }

  /** Opens one; with `create` makes it where there is none. Throws ENOENT, and EINVAL for something else. */
  static async open(tools: StoreTools, { create = false } = {}): Promise<Repository> {
    const settings = await tools.objects.get(SETTINGS).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    });
    if (settings) return new Repository(tools, { version: versionOf(settings) });
    if (!create) throw blockError("ENOENT", "repository", "there is no repository of backups here");
    const made = await tools.objects.putIfAbsent(SETTINGS, newSettings());
    return made ? new Repository(tools, { version: VERSION }) : Repository.open(tools);
  }

  /** Throws ESTALE where it is not there any more. */
  async check(): Promise<void> {
    await this.tools.objects.get(SETTINGS).catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw error;
      throw blockError("ESTALE", "repository", "the repository, or its file system, has gone");
    });
  }

  /** All backups, the oldest first. Descriptions that are damaged are told to `damaged`; default: the first one throws. */
  async backups(damaged?: (damage: Damage) => void): Promise<Backup[]> {
    const found: Backup[] = [];
    for (const { name } of await this.tools.objects.list(BACKUPS, () => false)) {
      try {
        found.push(parseDescription(name, await this.tools.objects.get(name), this.tools.sha256));
      } catch (error) {
        // Removed meanwhile.
        if (errnoOf(error) === "ENOENT") continue;
        if (!damaged) throw error;
        damaged({ object: name, problem: messageOf(error) });
      }
    }
    return inOrder(found);
  }

  /** Whether a backup is described still. */
  async has({ id }: Backup): Promise<boolean> {
    return this.tools.objects.get(descriptionName(id)).then(
      () => true,
      (error: unknown) => {
        if (errnoOf(error) !== "ENOENT") throw error;
        return false;
      },
    );
  }

  /** The backup that a word means; see findBackup(). Descriptions that are damaged are told to `damaged`. */
  async find(word: string, damaged: (damage: Damage) => void = () => undefined): Promise<Backup> {
    return findBackup(await this.backups(damaged), word);
  }

  /** Where all chunks lie. Packs that are damaged are told and left out; so are condemned ones, `withCondemned` apart. Those in `known` are not read again. */
  async index(
    damaged: (damage: Damage) => void,
    { withCondemned = false, known }: { withCondemned?: boolean; known?: ChunkIndex } = {},
  ): Promise<ChunkIndex> {
    const index = new ChunkIndex();
    const read = new Map(known?.packs.map((pack) => [pack.name, pack]));
    const condemned = withCondemned ? new Set<string>() : new Set(await this.condemned());
    const packs = await this.tools.objects.list(PACKS);
    // What is condemned is a copy, if it is a use to anybody: it comes last.
    const last = new Set(withCondemned ? await this.condemned() : []);
    const order = [
      ...packs.filter(({ name }) => !last.has(name)),
      ...packs.filter(({ name }) => last.has(name)),
    ];
    const open = async (info: ObjectInfo): Promise<PackIndex[]> => {
      try {
        return [read.get(info.name) ?? (await readPack(this.tools, info))];
      } catch (error) {
        if (errnoOf(error) === "ESTALE") throw error;
        if (errnoOf(error) !== "ENOENT") damaged({ object: info.name, problem: messageOf(error) });
        return [];
      }
    };
    const wanted = order.filter(({ name }) => !condemned.has(name));
    const found: PackIndex[] = [];
    for await (const [, packs] of askEach(wanted, open)) found.push(...packs);
    index.add(found);
    return index;
  }

  /** The packs that are going to be removed. */
  async condemned(): Promise<string[]> {
    const all = await this.tools.objects.list(CONDEMNED, () => false);
    return all.map(({ name }) => `${PACKS}${name.slice(CONDEMNED.length)}`);
  }

  /** Says that a pack is not to be relied on any more. */
  async condemn(pack: string): Promise<void> {
    await this.tools.objects.put(condemnedName(pack), new Uint8Array());
  }

  /** Takes that back. */
  async acquit(pack: string): Promise<void> {
    await this.tools.objects.remove(condemnedName(pack));
  }

  /** Publishes a backup whose chunks are all there. */
  async publish(backup: Backup): Promise<void> {
    const name = descriptionName(backup.id);
    const made = await this.tools.objects.putIfAbsent(name, encodeDescription(backup, this.tools.sha256));
    if (!made) throw blockError("EEXIST", "backup", `there is a backup '${backup.id}' already`);
  }

  /** Takes a backup out; its chunks stay until they are swept up. */
  async forget({ id }: Backup): Promise<void> {
    await this.tools.objects.remove(descriptionName(id));
  }
}

function condemnedName(pack: string): string {
  return `${CONDEMNED}${pack.slice(PACKS.length)}`;
}

function newSettings(): Uint8Array {
  const settings = { format: FORMAT, version: VERSION, "chunk-bytes": CHUNK_BYTES };
  return new TextEncoder().encode(`${JSON.stringify(settings)}\n`);
}

/** The version of a repository. Throws EINVAL for what is none, and of a kind that is not known. */
function versionOf(bytes: Uint8Array): number {
  const refuse = (why: string): never => {
    throw blockError("EINVAL", "repository", `'${SETTINGS}' ${why}`);
  };
  let settings: unknown;
  try {
    settings = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    refuse("is no JSON");
  }
  const { format, version, "chunk-bytes": chunk } = (settings ?? {}) as Record<string, unknown>;
  if (format !== FORMAT) refuse("is not that of a repository of backups");
  if ((version !== 1 && version !== VERSION) || chunk !== CHUNK_BYTES)
    refuse("is of a kind that is not known here");
  return version as number;
}
