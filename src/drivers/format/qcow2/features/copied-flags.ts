/**
 * Makes the COPIED flags of the active tables follow the refcounts. Runs under the metadata lock.
 * Source: qcow2.txt, "Cluster mapping".
 */
import type { Image } from "../metadata/image.ts";
import { COPIED_HIGH, entryKind, entryOffset, Kind } from "../disk/layout.ts";
import { checkL2Offset, loadL1Slot } from "../metadata/mapping.ts";
import { getRefcount } from "../metadata/refcounts.ts";
import { makeRoom } from "../metadata/write-back.ts";

/** Which flags are changed: all that are wrong, or only those that are missing. */
type Scope = "wrong" | "missing";

/** COPIED says that a cluster is referred to once. */
function withFlag(high: number, once: boolean, scope: Scope): number {
  if (once) return (high | COPIED_HIGH) >>> 0;
  return scope === "wrong" ? (high & ~COPIED_HIGH) >>> 0 : high;
}

/** Makes the flags right. Errors: the file's, EIO for a corrupt L1 entry. */
export async function refreshFlags(image: Image, scope: Scope = "wrong"): Promise<void> {
  const { clusterSize, l2Coverage, sliceBytes } = image.geometry;
  for (let index = 0; index < image.header.l1Size; index++) {
    await makeRoom(image);
    const { table, at } = await loadL1Slot(image, index * l2Coverage);
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    const l2Offset = entryOffset(high, low);
    if (l2Offset === 0) continue;
    await checkL2Offset(image, l2Offset, index);
    const wanted = withFlag(high, (await getRefcount(image, l2Offset / clusterSize)) === 1, scope);
    if (wanted !== high >>> 0) {
      table.view.setUint32(at, wanted);
      image.l1.markDirty(table, at, at + 8);
    }
    // What lies in a data file of its own has no refcounts.
    for (let slice = 0; slice < clusterSize && !image.hasDataFile; slice += sliceBytes)
      await refreshSlice(image, l2Offset + slice, scope);
  }
}

async function refreshSlice(image: Image, offset: number, scope: Scope): Promise<void> {
  const { clusterSize, entryBytes } = image.geometry;
  const table = await image.l2.load(offset);
  for (let at = 0; at < table.bytes.byteLength; at += entryBytes) {
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    const kind = entryKind(high, low);
    if (kind !== Kind.normal && kind !== Kind.zeroAllocated) continue;
    const known = getRefcount(image, Math.floor(entryOffset(high, low) / clusterSize));
    const wanted = withFlag(high, (typeof known === "number" ? known : await known) === 1, scope);
    if (wanted === high) continue;
    table.view.setUint32(at, wanted);
    image.l2.markDirty(table, at, at + 8);
  }
}
