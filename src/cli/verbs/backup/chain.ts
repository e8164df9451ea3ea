/**
 * A place for backups that is a directory of plain images: a full one, and overlays that hold what changed since the one below
 * them. Any program that reads the format can read them.
 *
 * Files: `ID.EXT`, the image; `backups/ID.json`, its description, by which it counts; `holders/…`, who is at work.
 *
 * Invariants: an image is described when it is whole and durable; a file that a description names does not change, but for a
 * prune, which puts a whole one in its place, and says so in the description before and after. A prune works alone.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type BackupSource, changedRuns, describe } from "../../../api/backups.ts";
import { mapExtents } from "../../../api/map.ts";
import { createImageIn } from "../../../api/open.ts";
import { closing, failed, asyncDispose } from "../../../base/lease.ts";
import { blockError, errnoOf, messageOf } from "../../../base/errors.ts";
import { MiB } from "../../../base/limits.ts";
import type { ObjectPlace } from "../../../base/objects.ts";
import { overlayFormat } from "../../../drivers/format/defaults.ts";
import { convert } from "../../../api/convert.ts";
import type { CreateImageSpec, Node } from "../../../node.ts";
import { rebase } from "../../../api/rebase.ts";
import { syncPath } from "../../../platform/node/sync.ts";
import {
  type Backup,
  descriptionName,
  encodeDescription,
  findBackup,
  inOrder,
  nextNumber,
  parseDescription,
} from "../../../store/description.ts";
import { Holder, livingHolders } from "../../../store/holders.ts";
import { SETTINGS } from "../../../store/repository.ts";
import { type Keep, divide } from "../../../store/retention.ts";
import { newName, type StoreTools, isoTime } from "../../../store/tools.ts";
import { CHUNK_BYTES } from "../../../store/tree.ts";
import type { Verdict } from "../../../store/verify.ts";
import { openImage } from "../../images.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";
import { doing } from "./restore.ts";
import type { BackupPlace, OpenBackup, Opening, Pruned, Watcher } from "./place.ts";

/** Its description beside what every backup has. */
interface Link extends Backup {
  /** SHA-256 of the image's file; two of them while a prune puts another file in its place. */
  readonly files: readonly string[];
}

/** Opens it; a directory that is not there is made with the first backup. */
export async function openChain(opening: Opening): Promise<BackupPlace> {
  const there = await stat(opening.directory).catch(() => undefined);
  if (!there && !opening.create) throw blockError("ENOENT", "repository", "there is no such directory");
  if (there && !there.isDirectory()) throw blockError("ENOTDIR", "repository", "it is no directory");
  const settings = await opening.objects.get(SETTINGS).catch(() => undefined);
  if (settings) throw blockError("EINVAL", "repository", "it is one of chunks, and no chain");
  return new ChainPlace(opening);
}

class ChainPlace implements BackupPlace {
  readonly #verb: Run;
  readonly #tools: StoreTools;
  readonly #watcher: Watcher;
  readonly #directory: string;
  readonly #objects: ObjectPlace;

  constructor({ verb, tools, watcher, directory, objects }: Opening) {
    this.#verb = verb;
    this.#tools = tools;
    this.#watcher = watcher;
    this.#directory = directory;
    this.#objects = objects;
  }

  async backups(): Promise<Link[]> {
    const found: Link[] = [];
    for (const { name } of await this.#objects.list("backups/", () => false)) {
      try {
        const bytes = await this.#objects.get(name);
        found.push(parseDescription(name, bytes, this.#tools.sha256) as Link);
      } catch (error) {
        if (errnoOf(error) !== "ENOENT") this.#watcher.onDamage({ object: name, problem: messageOf(error) });
      }
    }
    return inOrder(found);
  }

  async find(word: string): Promise<Backup> {
    return findBackup(await this.backups(), word);
  }

  async create(wanted: BackupSource): Promise<Backup> {
    const time = wanted.time ?? isoTime(this.#tools);
    await using holder = await Holder.take(this.#tools, `create ${wanted.name}`);
    await this.#refuseBesidePrune(holder);
    const source = await this.#withWholeBase(wanted);
    const { node, since } = source;
    const id = source.id ?? newName(this.#tools);
    const draft = this.#draft();
    try {
      const readBytes = await doing(this.#verb, `Could not write '${this.#image(id)}'`, () =>
        since ? this.#changes(draft, source) : this.#whole(draft, node),
      );
      await syncPath(draft);
      const { size } = await stat(draft);
      const number = nextNumber(await this.backups());
      const facts = { id, time, number, readBytes, newBytes: readBytes, storedBytes: size, root: null };
      const backup: Link = { ...describe(source, facts), files: [await digest(draft)] };
      this.#watcher.signal.throwIfAborted();
      await holder.check();
      await rename(draft, this.#image(id));
      await syncPath(this.#directory);
      await this.#describe(backup);
      return backup;
    } finally {
      await rm(draft, { force: true });
    }
  }

  /** A full backup, and told why, where an image below an incremental one is gone, or has another length. */
  async #withWholeBase(source: BackupSource): Promise<BackupSource> {
    const found = source.since && (await this.#glance(source.since.backup.id));
    if (!found) return source;
    const problem = `${found.problem}: this is a full backup`;
    this.#watcher.onDamage({ object: descriptionName(found.id), problem });
    return { ...source, since: undefined };
  }

  /** What is wrong with a backup's image, or one below it, as far as their lengths say. */
  async #glance(backup: string): Promise<{ id: string; problem: string } | undefined> {
    const all = await this.backups();
    for (let id: string | undefined = backup; id !== undefined;) {
      const link = all.find((one) => one.id === id);
      const found = await stat(this.#image(id)).catch(() => undefined);
      // While a prune puts another file in its place it has either's length.
      const isWhole = link && found && (found.size === link.storedBytes || link.files.length > 1);
      if (!isWhole) {
        const what = link && found ? `has ${found.size} bytes, and not ${link.storedBytes}` : "is missing";
        return { id, problem: `'${this.#image(id)}', which backup ${backup} needs, ${what}` };
      }
      id = link.parent;
    }
    return undefined;
  }

  /** Opens a backup's image, which has its length at least, and those below it. */
  async #openWhole({ id }: Backup): Promise<Node> {
    const found = await this.#glance(id);
    if (found) throw blockError("EIO", "restore", found.problem);
    return this.#open(this.#image(id));
  }

  newId(): string {
    return newName(this.#tools);
  }

  async restore(backup: Backup, target: Node, seeds: readonly Node[]): Promise<number> {
    if (seeds.length > 0) throw new Refusal("--seed goes with a repository of chunks");
    await this.#checkFiles(backup);
    await this.#reading(backup, (node) => convert(node, target, { targetIsZero: true, ...this.#how() }));
    await target.flush();
    return 0;
  }

  async open(backup: Backup): Promise<OpenBackup> {
    const holder = await Holder.take(this.#tools, `restore ${backup.id}`, { reads: true });
    const release = (): Promise<void> => holder.end();
    try {
      await this.#refuseBesidePrune(holder);
      const node = await this.#openWhole(backup);
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
    await this.#reading(backup, async (node) => {
      for (let at = offset; at < end; at += MiB) await take(await node.read(at, Math.min(MiB, end - at)));
    });
  }

  async verify(wanted: (backup: Backup) => boolean): Promise<Verdict> {
    await using holder = await Holder.take(this.#tools, "verify", { reads: true });
    await this.#refuseBesidePrune(holder);
    const all = await this.backups();
    const problems = new Map<string, string | undefined>();
    let [bytes, done] = [0, 0];
    const chosen = all.filter(wanted);
    for (const backup of all) {
      // Of a backup that is wanted all that lies below it is looked at too.
      if (!chosen.some((one) => isBelow(all, backup, one))) continue;
      this.#watcher.signal.throwIfAborted();
      problems.set(backup.id, await this.#problemOf(all, backup));
      bytes += backup.storedBytes;
      done += 1;
      this.#watcher.onProgress(done, all.length);
    }
    const broken = chosen.flatMap(({ id }) => {
      const problem = problemBelow(all, problems, id);
      return problem === undefined ? [] : [{ id, problem }];
    });
    return { backups: chosen.length, chunks: 0, bytes, broken, damaged: [] };
  }

  async prune(keep: Keep | undefined, { dryRun }: { dryRun: boolean }): Promise<Pruned> {
    await using holder = await Holder.take(this.#tools, PRUNING);
    const others = await livingHolders(this.#tools, holder.id);
    if (others.size > 0 && !dryRun)
      throw blockError(
        "EBUSY",
        "prune",
        `others are at work in the repository (${[...others.values()].join("; ")}); try again when they are done`,
      );
    const all = await this.backups();
    const { stays, kept, removed } = divide(all, keep, { dryRun });
    if (dryRun) return { kept, removed, freedBytes: 0, isWaiting: false };
    const before = await this.#bytes();
    for (const backup of all) if (stays.has(backup)) await this.#standAlone(all, backup, stays);
    for (const { id } of removed) await this.#objects.remove(descriptionName(id));
    await this.#sweep(new Set([...stays].map(({ id }) => id)));
    return { kept, removed, freedBytes: Math.max(0, before - (await this.#bytes())), isWaiting: false };
  }

  /** Lays a backup over the next one below it that stays, or over none, where what it lies over goes. */
  async #standAlone(all: readonly Link[], backup: Link, stays: ReadonlySet<Backup>): Promise<void> {
    const parent = all.find(({ id }) => id === backup.parent);
    if (!parent || stays.has(parent)) return;
    let below: Link | undefined = parent;
    while (below && !stays.has(below)) below = all.find(({ id }) => id === below?.parent);
    const draft = this.#draft();
    try {
      await copyFile(this.#image(backup.id), draft);
      await using node = await this.#open(draft, true);
      await using base = below && (await this.#open(this.#image(below.id)));
      const target = base && below ? { filename: fileOf(below.id), format: overlayFormat, node: base } : null;
      await rebase(node, target, this.#how());
      await node.close();
      await syncPath(draft);
      const { parent: _old, ...rest } = backup;
      const files = [await digest(draft)];
      const { size } = await stat(draft);
      const made = below ? { parent: below.id } : { kind: "full" as const };
      await this.#describe({ ...backup, files: [...backup.files, ...files] });
      await rename(draft, this.#image(backup.id));
      await syncPath(this.#directory);
      await this.#describe({ ...rest, ...made, storedBytes: size, files });
    } finally {
      await rm(draft, { force: true });
    }
  }

  /** Removes images that nobody describes, and drafts that nobody finishes. */
  async #sweep(needed: ReadonlySet<string>): Promise<void> {
    for (const file of await readdir(this.#directory)) {
      const [, id] = IMAGE.exec(file) ?? [];
      if (DRAFT.test(file) || (id !== undefined && !needed.has(id))) await rm(join(this.#directory, file));
    }
    await this.#objects.sweep();
  }

  async #bytes(): Promise<number> {
    let sum = 0;
    for (const file of await readdir(this.#directory))
      if (IMAGE.test(file)) sum += (await stat(join(this.#directory, file))).size;
    return sum;
  }

  async #problemOf(all: readonly Link[], backup: Link): Promise<string | undefined> {
    const image = this.#image(backup.id);
    if (backup.parent !== undefined && !all.some(({ id }) => id === backup.parent))
      return `backup ${backup.id}: backup ${backup.parent}, over which it lies, is missing`;
    try {
      if (backup.files.includes(await digest(image))) return undefined;
      return `'${image}' is not what was written`;
    } catch (error) {
      return `'${image}' can't be read: ${messageOf(error)}`;
    }
  }

  /** What lies at the end of a file that was cut off reads as zeroes, and what was changed as something else: neither is restored. */
  async #checkFiles(backup: Backup): Promise<void> {
    const all = await this.backups();
    for (const link of all) {
      if (!all.some((one) => one.id === backup.id && isBelow(all, link, one))) continue;
      this.#watcher.signal.throwIfAborted();
      const problem = await this.#problemOf(all, link);
      if (problem !== undefined) throw blockError("EIO", "restore", `backup ${backup.id}: ${problem}`);
    }
  }

  /** A full image: all that the disk has. Answers the bytes that were read. */
  async #whole(draft: string, node: Node): Promise<number> {
    await this.#make(draft, node.length);
    await using target = await this.#open(draft, true);
    await convert(node, target, { targetIsZero: true, ...this.#how() });
    await target.close();
    let readBytes = 0;
    for await (const { data, bytes } of mapExtents(node.blockNode)) if (data) readBytes += bytes;
    return readBytes;
  }

  /** An overlay: what has changed. Answers the bytes that were read. */
  async #changes(draft: string, { node, since }: BackupSource): Promise<number> {
    const parent = since!.backup.id;
    await stat(this.#image(parent));
    await this.#make(draft, node.length, fileOf(parent));
    await using target = await this.#open(draft, true);
    let readBytes = 0;
    for await (const { chunk, count, data } of changedRuns(node, since!)) {
      const end = Math.min((chunk + count) * CHUNK_BYTES, node.length);
      for (let at = chunk * CHUNK_BYTES; at < end; at += MiB) {
        this.#watcher.signal.throwIfAborted();
        const bytes = Math.min(MiB, end - at);
        if (!data) await target.writeZeroes(at, bytes, { unmap: true });
        else {
          await target.write(at, await node.read(at, bytes));
          readBytes += bytes;
        }
        this.#watcher.onProgress(at + bytes, node.length);
      }
    }
    await target.close();
    return readBytes;
  }

  async #make(filename: string, size: number, backing?: string): Promise<void> {
    const named = backing === undefined ? {} : { "backing-file": backing, "backing-fmt": overlayFormat };
    const spec = { driver: overlayFormat, file: { driver: "file", filename }, size, ...named };
    await createImageIn(this.#verb.engine, spec as unknown as CreateImageSpec);
  }

  #open(file: string, write = false): Promise<Node> {
    return openImage(this.#verb, file, { format: overlayFormat, write });
  }

  async #reading(backup: Backup, body: (node: Node) => Promise<void>): Promise<void> {
    await using holder = await Holder.take(this.#tools, `restore ${backup.id}`, { reads: true });
    await this.#refuseBesidePrune(holder);
    await using node = await this.#openWhole(backup);
    await body(node);
  }

  /** A prune is not at work, and a later one sees us. */
  async #refuseBesidePrune(own: Holder): Promise<void> {
    for (const [id, who] of await livingHolders(this.#tools, own.id)) {
      const told = await this.#objects.get(`holders/${id}`).catch(() => new Uint8Array());
      if (new TextDecoder().decode(told).includes(`"${PRUNING}"`))
        throw blockError(
          "EBUSY",
          "repository",
          `a prune is at work in the repository (${who}); try again when it is done`,
        );
    }
  }

  async #describe(backup: Link): Promise<void> {
    await this.#objects.put(descriptionName(backup.id), encodeDescription(backup, this.#tools.sha256));
  }

  #image(id: string): string {
    return join(this.#directory, fileOf(id));
  }

  #draft(): string {
    return join(this.#directory, `.${randomBytes(8).toString("hex")}.new`);
  }

  #how(): { signal: AbortSignal; onProgress: Watcher["onProgress"] } {
    return { signal: this.#watcher.signal, onProgress: this.#watcher.onProgress };
  }
}

const PRUNING = "prune";
const IMAGE = new RegExp(`^(\\d{8}T\\d{6}Z-[0-9a-f]{8})\\.${overlayFormat}$`);
const DRAFT = /^\.[0-9a-f]{16}\.new$/;

function fileOf(id: string): string {
  return `${id}.${overlayFormat}`;
}

/** Whether `backup` is `above`, or lies below it. */
function isBelow(all: readonly Link[], backup: Link, above: Link): boolean {
  for (let at: Link | undefined = above; at; at = all.find(({ id }) => id === at?.parent))
    if (at.id === backup.id) return true;
  return false;
}

function problemBelow(
  all: readonly Link[],
  problems: ReadonlyMap<string, string | undefined>,
  id: string,
): string | undefined {
  for (let at = all.find((one) => one.id === id); at; at = all.find((one) => one.id === at?.parent)) {
    const problem = problems.get(at.id);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

async function digest(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(file, { highWaterMark: MiB })) hash.update(piece as Uint8Array);
  return hash.digest("hex");
}
