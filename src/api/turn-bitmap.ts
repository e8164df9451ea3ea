/**
 * The turn of a dirty bitmap: from a backup on it records anew, and the image says since which backup. Both are in the one
 * directory of bitmaps that the image stores, so an image never has the one without the other.
 *
 * The image says it by a bitmap beside the other, which records nothing: `blockwright:NAME:BACKUP`. So two repositories that use
 * one bitmap, or a copy of a repository that is older, are told apart from the backup that the bitmap counts from.
 */
import { reopen } from "../block/graph/reopen.ts";
import { addBitmap, type BitmapInfo, bitmaps, clearBitmap, enableBitmap, removeBitmap } from "./bitmaps.ts";
import type { Node } from "./node.ts";

const MARK = "blockwright:";
const FROZEN = "blockwright:frozen:";

/** Whether the image can keep bitmaps. */
export function keepsBitmaps({ blockNode }: Node): boolean {
  return blockNode.driver.bitmapStore?.() !== undefined;
}

/** What is asked of a bitmap, wherever it is. */
export type BitmapState = Pick<BitmapInfo, "name" | "inconsistent" | "recording">;

/** Since which backup a disk's changes are known, and the bitmaps that have them, all of which count. */
export interface KnownSince {
  readonly backup: string;
  readonly bitmaps: readonly string[];
}

/**
 * The backup since which one of a disk's bitmaps records; where it can't be relied on, why. What a run that was killed has kept frozen is part of
 * it, but where the backup that it was kept for is there.
 */
export function bitmapSince(
  all: readonly BitmapState[],
  name: string,
  isThere: (backup: string) => boolean,
): KnownSince | { readonly unknown: string } {
  const bitmap = all.find((one) => one.name === name);
  if (!bitmap) return { unknown: `there is no bitmap '${name}' yet` };
  const frozen = frozenFor(all, name);
  const published = frozen.find(({ backup }) => isThere(backup));
  const counted = [bitmap, ...frozen.filter((one) => one !== published)];
  const broken = counted.find(({ inconsistent }) => inconsistent);
  if (broken) return { unknown: `bitmap '${broken.name}' is inconsistent: the image was not closed well` };
  if (!bitmap.recording) return { unknown: `bitmap '${name}' was switched off` };
  const names = counted.map((one) => one.name);
  if (published) return { backup: published.backup, bitmaps: names };
  const [mark, ...more] = marksOf(all, name).filter((one) => !one.inconsistent);
  if (!mark || more.length > 0)
    return { unknown: `bitmap '${name}' does not say since which backup it records` };
  return { backup: mark.name.slice(markOf(name, "").length), bitmaps: names };
}

/** The bitmaps that say since which backup another one records. */
export function marksOf<B extends BitmapState>(all: readonly B[], name: string): B[] {
  return all.filter((one) => one.name.startsWith(markOf(name, "")));
}

/** The name of the bitmap that says that `name` records since a backup. */
export function markOf(name: string, backup: string): string {
  return `${MARK}${name}:${backup}`;
}

/** The name under which it is kept what a bitmap had recorded, until a backup is there. */
export function frozenOf(name: string, backup: string): string {
  return `${FROZEN}${name}:${backup}`;
}

/** What is kept of a bitmap like that, and for which backups. */
export function frozenFor<B extends BitmapState>(
  all: readonly B[],
  name: string,
): (B & { readonly backup: string })[] {
  const start = frozenOf(name, "");
  return all
    .filter((one) => one.name.startsWith(start))
    .map((one) => ({ ...one, backup: one.name.slice(start.length) }));
}

/**
 * Lets the bitmap record from now on, for the backup of that id; makes it where there is none. The image becomes writable, and its
 * bitmaps are stored when it is closed. Throws CommandError where the format keeps no bitmaps.
 */
export async function turnBitmap(node: Node, name: string, backup: string): Promise<void> {
  await makeWritable(node);
  const all = bitmaps(node);
  for (const { name: old } of [...marksOf(all, name), ...frozenFor(all, name)]) removeBitmap(node, old);
  const bitmap = all.find((one) => one.name === name);
  if (bitmap?.inconsistent) removeBitmap(node, name);
  if (bitmap && !bitmap.inconsistent) {
    clearBitmap(node, name);
    enableBitmap(node, name);
  } else addBitmap(node, name, { persistent: true });
  addBitmap(node, markOf(name, backup), { persistent: true, disabled: true });
}

/** Switches the image to writable, its locks held all the time. */
async function makeWritable({ engine, blockNode }: Node): Promise<void> {
  if (!blockNode.readOnly) return;
  const children = Object.fromEntries(blockNode.children.map(({ name, node }) => [name, node.name]));
  const { discard, detectZeroes, autoReadOnly } = blockNode.options;
  const now = { discard, "detect-zeroes": detectZeroes, "auto-read-only": autoReadOnly };
  const changed = { "node-name": blockNode.name, "read-only": false };
  await reopen(engine.graph, [{ ...blockNode.spec, ...now, ...children, ...changed }]);
}
