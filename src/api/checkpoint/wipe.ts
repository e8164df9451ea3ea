/**
 * What an earlier process had under way in a target that was new: it may be there or not, and must not show through where nothing is
 * written, since the source has zeroes there.
 */
import { MiB } from "../../base/limits.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import { Req } from "../../block/model/contract.ts";
import { blockStatusAbove } from "../../block/io/status.ts";

const REACH = 1024 * MiB;

/** Makes the target read as zeroes from an offset on, where it does not. */
export async function wipeOutstanding(to: BlockBackend, from: number, end: number): Promise<void> {
  for (let at = from; at < end;) {
    const { bytes, zero } = await blockStatusAbove(to.root!.node, at, Math.min(end - at, REACH));
    if (!zero) await to.pwriteZeroes(at, bytes, Req.mayUnmap);
    at += Math.max(bytes, 1);
  }
}
