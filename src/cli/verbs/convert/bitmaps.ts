/**
 * --bitmaps of convert: the source's persistent bitmaps, copied into the target. Words of qemu-img 7.2.
 */
import { messageOf } from "../../../base/errors.ts";
import {
  addBitmap,
  type BitmapInfo,
  bitmaps,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from "../../../api/bitmaps.ts";
import type { Node } from "../../../node.ts";
import { Refusal } from "../../refusal.ts";
import type { Run } from "../../run.ts";

/** Whether an open image can keep bitmaps. */
function keepsBitmaps(node: Node): boolean {
  const { driver } = node.blockNode;
  return driver.bitmapStore?.() !== undefined && driver.formatSpecific?.()?.data["compat"] !== "0.10";
}

/** Throws Refusal unless the source can have bitmaps, and all are whole or may be left out. */
export function checkSourceBitmaps(source: Node, { skipBroken }: { skipBroken: boolean }): void {
  if (!keepsBitmaps(source)) throw new Refusal("Source lacks bitmap support");
  const broken = persistent(source).find(({ inconsistent }) => inconsistent);
  if (!broken || skipBroken) return;
  throw new Refusal(
    `Cannot copy inconsistent bitmap '${broken.name}'\n` +
      "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it",
  );
}

/** Throws Refusal unless the target can keep bitmaps. */
export function checkTargetBitmaps(target: Node): void {
  if (!keepsBitmaps(target))
    throw new Refusal(`Format driver '${target.chain[0]?.driver}' does not support bitmaps`);
}

function persistent(node: Node): BitmapInfo[] {
  return bitmaps(node).filter((bitmap) => bitmap.persistent);
}

/** Copies all bitmaps that are whole. Throws Refusal. */
export function copyBitmaps(verb: Run, source: Node, target: Node): void {
  for (const { name, granularity, recording, inconsistent } of persistent(source)) {
    if (inconsistent) {
      verb.warn(`Skipping inconsistent bitmap '${name}'`);
      continue;
    }
    attempt(`Failed to create bitmap ${name}`, () =>
      addBitmap(target, name, { granularity, persistent: true, disabled: true }),
    );
    try {
      attempt(`Failed to populate bitmap ${name}`, () =>
        mergeBitmaps(target, name, [{ node: source, name }]),
      );
    } catch (error) {
      removeBitmap(target, name);
      throw error;
    }
    if (recording) enableBitmap(target, name);
  }
}

function attempt(words: string, body: () => void): void {
  try {
    body();
  } catch (error) {
    throw new Refusal(`${words}: ${messageOf(error)}`);
  }
}
