/**
 * Loading and saving persistent dirty bitmaps through a format's store: loaded when a node opens, stored whenever it stops
 * being writable, and in use in the image as long as it is writable. Source: behaviour of QEMU 7.2.
 */
import type { BitmapStore, StoredBitmap } from "../model/contract.ts";
import { createDirtyBitmap, type DirtyBitmap } from "../model/dirty-bitmap.ts";
import { inFlight } from "../model/in-flight.ts";
import type { BlockNode } from "../model/node.ts";

/**
 * Makes the node's bitmaps from its store; those of a writable node are marked in use in the image when all of them are
 * there. On an error there are none, and the image is as it was.
 */
export async function restoreBitmaps(node: BlockNode, store: BitmapStore): Promise<void> {
  const made: DirtyBitmap[] = [];
  try {
    for (const stored of await store.load()) {
      const bitmap = createDirtyBitmap(node, { name: stored.name, granularity: stored.granularity });
      made.push(bitmap);
      bitmap.persistent = true;
      bitmap.stored = true;
      bitmap.readOnly = node.readOnly;
      bitmap.enabled = stored.auto && !stored.inconsistent;
      bitmap.storedAuto = stored.auto;
      bitmap.inconsistent = stored.inconsistent;
      if (!stored.inconsistent) bitmap.bitmap.deserialize(stored.bits);
    }
    if (!node.readOnly) await writeAhead(node, store);
  } catch (error) {
    for (const bitmap of made) bitmap.release();
    throw error;
  }
}

/** The node is about to become read-only: its bitmaps are stored, and can't be changed until it is writable again. */
export async function keepBitmaps(node: BlockNode): Promise<void> {
  await saveBitmaps(node);
  for (const bitmap of node.dirtyBitmaps) {
    if (!bitmap.persistent) continue;
    bitmap.readOnly = true;
    bitmap.stored = true;
  }
}

/** The node has become writable: its bitmaps may change, which the image is told before. */
export async function useBitmaps(node: BlockNode): Promise<void> {
  const store = node.driver.bitmapStore?.();
  if (store) await writeAhead(node, store);
  for (const bitmap of node.dirtyBitmaps) bitmap.readOnly = false;
}

async function writeAhead(node: BlockNode, store: BitmapStore): Promise<void> {
  node.writeAhead = await store.markInUse(() => storedBitmaps(node));
}

/** Writes the persistent bitmaps of a writable node back, before it closes. */
export async function saveBitmaps(node: BlockNode): Promise<void> {
  const store = node.driver.bitmapStore?.();
  if (!store || node.readOnly) return;
  node.writeAhead = undefined;
  await store.save(storedBitmaps(node));
}

/** Has the images say what has changed of the nodes' bitmaps: whoever is told that it has may rely on it. */
export async function settleBitmaps(nodes: Iterable<BlockNode>): Promise<void> {
  for (const node of [...nodes]) {
    const ahead = node.writeAhead;
    if (ahead) await inFlight(node, () => ahead.settle());
  }
}

/** The node's persistent bitmaps as they are now. */
function storedBitmaps(node: BlockNode): StoredBitmap[] {
  const persistent = node.dirtyBitmaps.filter(
    ({ persistent: isKept, name, leaves }) => isKept && name !== undefined && !leaves,
  );
  // Those that are in the image keep their order, and new ones follow, the newest first, as QEMU has it.
  const kept = persistent.filter((bitmap) => bitmap.stored).toReversed();
  const added = persistent.filter((bitmap) => !bitmap.stored);
  return [...kept, ...added].map((bitmap) => ({
    name: bitmap.name ?? "",
    granularity: bitmap.granularity,
    auto: bitmap.inconsistent ? bitmap.storedAuto : bitmap.recording,
    inconsistent: bitmap.inconsistent,
    bits: bitmap.inconsistent ? new Uint8Array(0) : bitsOf(bitmap),
  }));
}

/** Also what was recorded in its place while a job uses it. */
function bitsOf({ bitmap, successor }: DirtyBitmap): Uint8Array {
  const bits = bitmap.serialize();
  const more = successor?.bitmap.serialize();
  if (more) for (const [at, byte] of more.entries()) bits[at]! |= byte;
  return bits;
}
