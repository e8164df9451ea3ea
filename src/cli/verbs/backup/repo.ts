/**
 * The verbs over backups that are kept: `backup create`, `list`, `verify`, `prune` and `cat`; `restore` is in restore-kept.ts.
 *
 * Exit status: 0; 1 where something fails; 2 from `verify` where a backup or an object of the repository is damaged.
 */
import { stillPermissions } from "../../../block/graph/backend.ts";
import { resolve } from "node:path";
import { dirtyIn, type Since } from "../../../api/backups.ts";
import { bitmapSince, keepsBitmaps, turnBitmap } from "../../../api/turn-bitmap.ts";
import { bitmaps } from "../../../api/bitmaps.ts";
import type { Node } from "../../../node.ts";
import type { Backup } from "../../../store/description.ts";
import type { Keep } from "../../../store/retention.ts";
import { hasProtocol } from "../../../block/model/gate.ts";
import { holdImage, openImage } from "../../images.ts";
import type { VerbFlags } from "../../options/flags.ts";
import { bytesArgument } from "../../options/sizes.ts";
import { misuse } from "../../usage.ts";
import { Refusal } from "../../refusal.ts";
import { Run } from "../../run.ts";
import { asJson, prunedLines, tableOf, toldBytes, verdictLines } from "./report.ts";
import { type BackupPlace, openPlace } from "./place.ts";

/** Options of all of them. */
export interface RepoFlags extends VerbFlags {
  repo?: string;
  json?: boolean;
}

/** Options of create. */
export interface CreateBackupFlags extends RepoFlags {
  format?: string;
  imageOpts?: boolean;
  bitmap?: string;
  name?: string;
  compressionLevel?: number;
  /** The QMP socket of a running program, and its nodes. */
  qmp?: string;
  node?: string[];
  /** Where its NBD server listens. */
  nbd?: string;
}

const DAMAGED = 2;

/** `backup create`. */
export function createKept(image: string | undefined, flags: CreateBackupFlags): Promise<number> {
  return new Run(flags, { io: "pool" }).carryOut(async (verb) => {
    const { qmp, node = [] } = flags;
    if ((image === undefined) === (qmp === undefined))
      throw misuse("Expecting an image file name, or --qmp and --node", 1);
    if (qmp === undefined && node.length > 0) throw misuse("--node goes with --qmp", 1);
    if (qmp !== undefined && node.length === 0) throw misuse("--qmp needs one --node at least", 1);
    if (flags.name === "") throw misuse("--name needs a name", 1);
    if (image !== undefined) {
      tellCreated(verb, [await createOfImage(verb, image, flags)], flags.json ? "one" : "lines");
      return 0;
    }
    const place = await openPlace(verb, flags.repo, { create: true });
    const { bitmap, name, compressionLevel: level } = flags;
    const nameOf = (one: string): string =>
      name === undefined ? one : node.length > 1 ? `${name}/${one}` : name;
    const { backupRunning } = await import("./running.ts");
    const { made, failures } = await backupRunning(verb, place, {
      socket: qmp!,
      nodes: [...new Set(node)],
      bitmap,
      level,
      nameOf,
      nbd: flags.nbd,
    });
    tellCreated(verb, made, flags.json ? "all" : "lines");
    for (const failure of failures) verb.note(failure);
    return failures.length === 0 ? 0 : 1;
  });
}

/** Says what was made: as JSON, one object or an array, or a line for each. */
function tellCreated(verb: Run, made: readonly Backup[], how: "one" | "all" | "lines"): void {
  if (how !== "lines") return verb.print(`${asJson(how === "one" ? made[0] : made)}\n`);
  for (const { id, name, kind, readBytes, storedBytes } of made)
    verb.say(`${id}: ${name}, ${kind}, ${toldBytes(readBytes)} read, ${toldBytes(storedBytes)} added`);
}

async function createOfImage(verb: Run, image: string, flags: CreateBackupFlags): Promise<Backup> {
  const { format, imageOpts, bitmap } = flags;
  await using node = await openImage(verb, image, { format, imageOpts, warn: true });
  const held = await holdImage(image, node, stillPermissions);
  try {
    if (bitmap !== undefined && !keepsBitmaps(node))
      throw new Refusal(`'${image}' can't keep a dirty bitmap: its format is ${node.chain[0]?.driver}`);
    const place = await openPlace(verb, flags.repo, { create: true });
    verb.progress.start();
    const name = flags.name ?? diskName(image, imageOpts);
    const since = bitmap === undefined ? undefined : await sinceWhich(verb, { place, node, bitmap, name });
    const backup = await place.create({ node, name, image, since, bitmap, level: flags.compressionLevel });
    if (bitmap !== undefined) await turnBitmap(node, bitmap, backup.id);
    verb.progress.end(true);
    return backup;
  } finally {
    await held.close();
  }
}

/** A file has the same name from wherever it is named. */
function diskName(image: string, imageOpts = false): string {
  return imageOpts || image.startsWith("json:") || hasProtocol(image) ? image : resolve(image);
}

interface Asked {
  place: BackupPlace;
  node: Node;
  bitmap: string;
  name: string;
}

/** The backup that an incremental one is compared with; undefined, with a word on why: all has to be read. */
async function sinceWhich(verb: Run, { place, node, bitmap, name }: Asked): Promise<Since | undefined> {
  const all = await place.backups();
  const known = (wanted: string): Backup | undefined => all.find(({ id }) => id === wanted);
  const since = bitmapSince(bitmaps(node), bitmap, (id) => known(id) !== undefined);
  const isFirst = !all.some((backup) => backup.name === name);
  if ("unknown" in since) {
    if (!isFirst) verb.warn(`${since.unknown}: this is a full backup`);
    return undefined;
  }
  const backup = known(since.backup);
  if (backup) return { backup, changed: () => dirtyIn(node, ...since.bitmaps) };
  verb.warn(
    `bitmap '${bitmap}' counts from backup ${since.backup}, which is not here: this is a full backup`,
  );
  return undefined;
}

/** `backup list`. */
export function listKept(flags: RepoFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const backups = await (await openPlace(verb, flags.repo)).backups();
    verb.print(flags.json ? `${asJson(backups)}\n` : tableOf(backups));
    return 0;
  });
}

/** `backup verify`. */
export function verifyKept(word: string | undefined, flags: RepoFlags): Promise<number> {
  return new Run(flags, { io: "pool" }).carryOut(async (verb) => {
    const place = await openPlace(verb, flags.repo);
    const only = word === undefined ? undefined : await place.find(word);
    const verdict = await place.verify(({ id }) => only === undefined || id === only.id);
    const ok = verdict.broken.length === 0 && verdict.damaged.length === 0;
    if (flags.json) verb.print(`${asJson({ ok, ...verdict })}\n`);
    else for (const line of verdictLines(verdict)) verb.say(line);
    return ok ? 0 : DAMAGED;
  });
}

/** Options of prune. */
export interface PruneFlags extends RepoFlags {
  keep: Keep;
  dryRun?: boolean;
}

/** `backup prune`. */
export function pruneKept(flags: PruneFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const place = await openPlace(verb, flags.repo);
    const keep = Object.keys(flags.keep).length > 0 ? flags.keep : undefined;
    const pruned = await place.prune(keep, { dryRun: flags.dryRun ?? false });
    if (flags.json) {
      const stays = pruned.kept.map(({ backup, why }) => ({ ...backup, why }));
      verb.print(`${asJson({ ...pruned, kept: stays })}\n`);
      return 0;
    }
    for (const line of prunedLines(pruned, flags)) verb.say(line);
    return 0;
  });
}

/** `backup cat`. */
export function catKept(
  words: { id: string; offset: string; length: string },
  flags: RepoFlags,
): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const place = await openPlace(verb, flags.repo);
    const backup = await place.find(words.id);
    const offset = bytesArgument("offset", words.offset);
    const end = offset + bytesArgument("length", words.length);
    if (end > backup.size)
      throw new Refusal(`The range ends at ${end}, and the disk of backup ${backup.id} at ${backup.size}`);
    await place.read(backup, { offset, end }, writeOut);
    return 0;
  });
}

/** Writes to stdout, and waits where nobody reads as fast. */
async function writeOut(piece: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(piece, (error) => (error ? reject(error) : resolve()));
  });
}
