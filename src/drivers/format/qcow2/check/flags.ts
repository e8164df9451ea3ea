/**
 * The COPIED flags of the active tables in a check: they must say whether a cluster is referred to once.
 * Source: qcow2.txt, "Cluster mapping"; behaviour of QEMU 7.2's check.
 */
import { BlockError } from "../../../../base/errors.ts";
import type { StoredRefcounts } from "./refcounts.ts";
import { hex, nextEntry } from "./tables.ts";
import type { Inspected } from "./inspected.ts";
import { COMPRESSED_HIGH, COPIED_HIGH, entryKind, entryOffset, Incompatible, Kind } from "../disk/layout.ts";

/** Compares the COPIED flags of the active tables with the refcounts, which are right by now if they were repaired. */
export async function checkCopiedFlags(image: Inspected, stored: StoredRefcounts): Promise<void> {
  const { header, file, result, fix } = image;
  // Without repair of errors, flags follow refcounts that are known to be right.
  const right = result.checkErrors + result.corruptions + result.leaks === 0;
  const mends = fix.errors || (fix.leaks && right);
  const l1 = new Uint8Array(header.l1Size * 8);
  await file.pread(header.l1Offset, l1);
  const view = new DataView(l1.buffer);
  for (let at = nextEntry(l1, 0); at < l1.byteLength; at = nextEntry(l1, at + 8)) {
    const index = at / 8;
    const high = view.getUint32(index * 8);
    const low = view.getUint32(index * 8 + 4);
    const offset = entryOffset(high, low);
    if (offset === 0) continue;
    image.signal?.throwIfAborted();
    const words = `OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${hex(high, low)}`;
    const right = await rightFlag(image, { stored, offset, high, words, mends });
    if (right !== undefined) {
      view.setUint32(index * 8, right);
      await file.pwrite(header.l1Offset + index * 8, l1.subarray(index * 8, index * 8 + 8));
    }
    await checkL2Flags(image, { stored, offset, mends });
  }
}

async function checkL2Flags(
  image: Inspected,
  { stored, offset, mends }: { stored: StoredRefcounts; offset: number; mends: boolean },
): Promise<void> {
  const { header, file } = image;
  const bits = Number(header.incompatible);
  if (offset >= file.length) return;
  const hasDataFile = (bits & Incompatible.dataFile) !== 0;
  const extended = (bits & Incompatible.extendedL2) !== 0;
  const bytes = new Uint8Array(2 ** header.clusterBits);
  const view = new DataView(bytes.buffer);
  await file.pread(offset, bytes);
  let changed = false;
  for (let at = 0; at < bytes.byteLength; at += extended ? 16 : 8) {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if (high & COMPRESSED_HIGH) continue;
    const kind = entryKind(high, extended ? low & ~1 : low, hasDataFile);
    if (kind !== Kind.normal && kind !== Kind.zeroAllocated) continue;
    const where = entryOffset(high, low);
    const known = hasDataFile ? 1 : stored.peek(Math.floor(where / bytes.byteLength));
    if (known !== undefined && (known === 1) === ((high & COPIED_HIGH) !== 0)) continue;
    const words = `OFLAG_COPIED data cluster: l2_entry=${hex(high, low)}`;
    const right = await rightFlag(image, {
      stored: hasDataFile ? undefined : stored,
      offset: where,
      high,
      words,
      mends,
    });
    if (right === undefined) continue;
    view.setUint32(at, right);
    changed = true;
  }
  if (!changed) return;
  if (image.metadata.overlap(offset, bytes.byteLength, "active L2 table")) {
    image.say("ERROR: Could not write L2 table; metadata overlap check failed: Input/output error");
    image.result.checkErrors += 1;
    throw new BlockError({ code: "EIO", op: "check" });
  }
  await file.pwrite(offset, bytes);
}

interface FlagPlace {
  /** None: clusters of a data file are all referred to once. */
  stored: StoredRefcounts | undefined;
  /** What the entry points to. */
  offset: number;
  high: number;
  words: string;
  mends: boolean;
}

/** The entry's high word as it should be, if it is to be changed. */
async function rightFlag(image: Inspected, place: FlagPlace): Promise<number | undefined> {
  const { high, words, mends } = place;
  const cluster = Math.floor(place.offset / 2 ** image.header.clusterBits);
  const count = place.stored ? await place.stored.get(cluster) : 1;
  if (count === undefined || (count === 1) === ((high & COPIED_HIGH) !== 0)) return undefined;
  image.say(
    `${mends ? "Repairing" : "ERROR"} ${words} refcount=${place.stored?.exact(cluster, count) ?? count}`,
  );
  image.result[mends ? "corruptionsFixed" : "corruptions"] += 1;
  return mends ? ((high & ~COPIED_HIGH) | (count === 1 ? COPIED_HIGH : 0)) >>> 0 : undefined;
}
