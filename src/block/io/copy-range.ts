/**
 * Copying out of a file of the host into a node, by the host: for whole disks, whose bytes need not come through here. Source:
 * QEMU's bdrv_co_copy_range. What is not copied, for whatever reason, is for a read and a write to copy.
 */
import type { FileRange } from "../../base/host.ts";
import type { FileZeroes } from "../../base/ranges.ts";
import type { BlockNode } from "../model/node.ts";
import { changing, checkRequest, checkWritable, isPlain, tracked } from "./request-path.ts";

/** Bytes of a file for `offset` of a node. */
export interface CopyRangeRequest {
  readonly offset: number;
  readonly source: FileRange;
  readonly zeroes: FileZeroes;
}

/** Writes what lies in a file; see DataPath.copyRange(). Undefined also where more is to be done than to write. */
export function copyRange(
  node: BlockNode,
  { offset, source, zeroes }: CopyRangeRequest,
): Promise<number> | undefined {
  const { bytes } = source;
  const { driver } = node;
  checkRequest(node, "pwrite", offset, bytes);
  if (!driver.copyRange || driver.debugEvent || node.options.detectZeroes !== "off") return undefined;
  if (node.readOnly || !isPlain(node, offset, bytes)) return undefined;
  const wait = node.writeAhead?.cover(offset, bytes);
  // Whoever writes it waits.
  if (wait) return void wait.catch(() => undefined);
  const copying = driver.copyRange(offset, source, zeroes);
  if (!copying) return undefined;
  checkWritable(node, offset, bytes);
  const range = { kind: "write", offset, bytes } as const;
  const copied = copying.then(() => undefined);
  return tracked(node, range, Promise.resolve(changing(node, range, () => copied))).then(async () => {
    const count = await copying;
    // It counts as having grown by all of it.
    if (count < bytes) node.updateLength();
    return count;
  });
}
