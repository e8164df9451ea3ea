/** Loading and saving persistent dirty bitmaps through a format's store. */
import type { BitmapStore } from "../model/contract.ts";
import { createDirtyBitmap } from "../model/dirty-bitmap.ts";
import type { BlockNode } from "../model/node.ts";

/** Makes the node's bitmaps from its store. */
export async function restoreBitmaps(node: BlockNode, store: BitmapStore): Promise<void> {
  for (const stored of await store.load()) {
    const bitmap = createDirtyBitmap(node, { name: stored.name, granularity: stored.granularity });
    bitmap.persistent = true;
    bitmap.stored = true;
    bitmap.enabled = stored.auto && !stored.inconsistent;
    bitmap.storedAuto = stored.auto;
    bitmap.inconsistent = stored.inconsistent;
    if (!stored.inconsistent) bitmap.bitmap.deserialize(stored.bits);
  }
}

/** Writes the persistent bitmaps of a writable node back, before it closes. */
export async function saveBitmaps(node: BlockNode): Promise<void> {
  const store = node.driver.bitmapStore?.();
  if (!store || node.readOnly) return;
  const persistent = node.dirtyBitmaps.filter((bitmap) => bitmap.persistent && bitmap.name !== undefined);
  // Those that are in the image keep their order, and new ones follow, the newest first, as QEMU has it.
  const kept = persistent.filter((bitmap) => bitmap.stored).toReversed();
  const added = persistent.filter((bitmap) => !bitmap.stored);
  await store.save(
    [...kept, ...added].map((bitmap) => ({
      name: bitmap.name ?? "",
      granularity: bitmap.granularity,
      auto: bitmap.inconsistent ? bitmap.storedAuto : bitmap.enabled,
      inconsistent: bitmap.inconsistent,
      bits: bitmap.inconsistent ? new Uint8Array(0) : bitmap.bitmap.serialize(),
    })),
  );
}
