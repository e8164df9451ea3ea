/**
 * Writes parts of a file again with what they read as: pages that the system took for clean after a failed write-back are
 * dirty again then. What the system has dropped in between can't be had again.
 */
import type { ByteRange } from "../../base/ranges.ts";
import type { ExtentFinder } from "./extents.ts";
import type { Lane, Transfers } from "./lanes.ts";

/** Bytes that are moved at once, a multiple of every alignment. */
const PIECE = 65_536;

/** Reads and writes a range, up to the end of the file; holes stay holes where they are known. BlockErrors of both. */
export async function rewrite(
  transfers: Transfers,
  file: { fd: number; lane: Lane; alignment: number },
  { offset, bytes, extents }: ByteRange & { extents: ExtentFinder },
): Promise<void> {
  const buffer = new Uint8Array(PIECE);
  for (let at = offset; at < offset + bytes; at += PIECE) {
    const extent = await extents.find(file.fd, at);
    if (extent && !extent.data && extent.bytes >= PIECE) continue;
    const count = await transfers.read({ ...file, buffer, offset: at });
    if (count === 0) return;
    await transfers.write({ ...file, buffer: buffer.subarray(0, count), offset: at });
  }
}
