/**
 * The options of an open image that can change: lazy refcounts, what is discarded in the file, the overlap checks, and the
 * sizes of the caches. Source: behaviour of QEMU 7.2's blockdev-reopen.
 */
import { MiB } from "../../../../base/limits.ts";
import type { NodeSpec } from "../../../../block/model/contract.ts";
import type { Image } from "../metadata/image.ts";
import { parseOptions } from "../metadata/options.ts";
import { checkedSections, checkSections } from "../metadata/overlap.ts";
import type { Qcow2Snapshots } from "./snapshots.ts";
import { markClosed, writeBack } from "../metadata/write-back.ts";

/** As much of the refcount table as is read when an image is opened for writing. */
const MOST_TABLE_BYTES = MiB;

/** Their names. */
export const reopenableOptions: ReadonlySet<string> = new Set([
  "lazy-refcounts",
  "pass-discard-request",
  "pass-discard-snapshot",
  "pass-discard-other",
  "discard-no-unref",
  "overlap-check",
  "cache-size",
  "l2-cache-size",
  "l2-cache-entry-size",
  "refcount-cache-size",
  "cache-clean-interval",
  "changed-backing",
]);

/**
 * The options that stay in force beside changes: a new total size of the caches takes the place of their single sizes, and single
 * sizes that then are both set that of an old total.
 */
export function keptOptions(now: Readonly<NodeSpec>, changes: Readonly<Record<string, unknown>>): NodeSpec {
  const { "l2-cache-size": _l2, "refcount-cache-size": _refcount, ...others } = now;
  if (changes["cache-size"] !== undefined) return others;
  const isSet = (name: string): boolean => (changes[name] ?? now[name]) !== undefined;
  if (!isSet("l2-cache-size") || !isSet("refcount-cache-size")) return now;
  const { "cache-size": _total, ...singles } = now;
  return singles;
}

/** Puts `overlap-check` in force. Throws CommandError for a mode that there is not; errors of the file. */
export async function useOverlapCheck(
  image: Image,
  spec: NodeSpec,
  snapshots: Qcow2Snapshots | undefined,
): Promise<void> {
  checkSections(image.metadata, checkedSections(spec));
  await snapshots?.noteL2Tables();
  if (!image.node.readOnly) await noteRefcountBlocks(image);
}

/** Enters the refcount blocks: their table is read whole, unless it is of a size that only petabytes need. */
async function noteRefcountBlocks({ header, geometry, refcountTable }: Image): Promise<void> {
  const bytes = Math.min(header.refcountTableClusters * geometry.clusterSize, MOST_TABLE_BYTES);
  for (let at = 0; at < bytes; at += refcountTable.tableBytes) {
    // Where it can't be read, whoever needs it fails.
    await Promise.resolve(refcountTable.load(header.refcountTableOffset + at)).catch(() => undefined);
  }
}

/** Puts other options in force. Throws CommandError in QEMU's words, and then nothing has changed. */
export async function reopenImage(
  image: Image,
  spec: NodeSpec,
  snapshots: Qcow2Snapshots | undefined,
): Promise<void> {
  const { geometry, header, size } = image;
  checkedSections(spec);
  const options = parseOptions(spec, {
    geometry,
    size,
    version: header.version,
    discard: spec.discard === "unmap",
    journal: !image.node.services.isLikeQemu,
  });
  await image.locked(async () => {
    image.useOptions(options);
    await useOverlapCheck(image, spec, snapshots);
  });
  if (image.keepsLazyRefcounts || !image.markedInUse) return;
  await writeBack(image);
  await image.file.flush();
  await markClosed(image);
}

/** Forgets all tables that were read; nothing is unwritten. The header stays what it was. */
export async function forgetTables(image: Image): Promise<void> {
  await image.locked(() => {
    for (const cache of [image.l1, image.l2, image.refcountTable, image.refcountBlocks]) cache.clear();
    return Promise.resolve();
  });
}
