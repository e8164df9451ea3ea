/**
 * The turn of a dirty bitmap: from a backup on it records anew, and the image says since which backup. Both are in the one
 * directory of bitmaps that the image stores, so an image never has the one without the other.
 *
 * The image says it by a bitmap beside the other, which records nothing: `blockwright:NAME:BACKUP`. So two repositories that use
 * one bitmap, or a copy of a repository that is older, are told apart from the backup that the bitmap counts from.
 */
import { reopen } from "../block/graph/reopen.ts";
import { addBitmap, type BitmapInfo, bitmaps, clearBitmap, removeBitmap } from "./bitmaps.ts";
import type { Node } from "./node.ts";

const MARK = "blockwright:";

/** Whether the image can keep bitmaps. */
export function keepsBitmaps({ blockNode }: Node): boolean {
  return blockNode.driver.bitmapStore?.() !== undefined;
}

/** What is asked of a bitmap, wherever it is. */
export type BitmapState = Pick<BitmapInfo, "name" | "inconsistent">;

/** The backup since which one of a disk's bitmaps records; where it can't be relied on, why. */
export function bitmapSince(
  all: readonly BitmapState[],
  name: string,
): { backup: string } | { unknown: string } {
  const bitmap = all.find((one) => one.name === name);
  if (!bitmap) return { unknown: `there is no bitmap '${name}' yet` };
  if (bitmap.inconsistent)
    return { unknown: `bitmap '${name}' is inconsistent: the image was not closed well` };
  const [mark, ...more] = marksOf(all, name).filter((one) => !one.inconsistent);
  if (!mark || more.length > 0)
    return { unknown: `bitmap '${name}' does not say since which backup it records` };
  return { backup: mark.name.slice(markOf(name, "").length) };
}

/** The bitmaps that say since which backup another one records. */
export function marksOf<B extends BitmapState>(all: readonly B[], name: string): B[] {
  return all.filter((one) => one.name.startsWith(markOf(name, "")));
}

/** The name of the bitmap that says that `name` records since a backup. */
export function markOf(name: string, backup: string): string {
  return `${MARK}${name}:${backup}`;
}

/**
 * Lets the bitmap record from now on, for the backup of that id; makes it where there is none. The image becomes writable, and its
 * bitmaps are stored when it is closed. Throws CommandError where the format keeps no bitmaps.
 */
export async function turnBitmap(node: Node, name: string, backup: string): Promise<void> {
  await makeWritable(node);
  const all = bitmaps(node);
  for (const mark of marksOf(all, name)) removeBitmap(node, mark.name);
  const bitmap = all.find((one) => one.name === name);
  if (bitmap?.inconsistent) removeBitmap(node, name);
  if (bitmap && !bitmap.inconsistent) clearBitmap(node, name);
  else addBitmap(node, name, { persistent: true });
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
