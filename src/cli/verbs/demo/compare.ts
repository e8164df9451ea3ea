/**
 * Compares two disks byte by byte through the kernels; what reads as zeroes on both sides is not read.
 */
import type { Node } from "../../../node.ts";

const STEP = 1024 * 1024;

/** The first byte that differs, or -1, and how many bytes were read to know. */
export async function compareDisks(
  a: Node,
  b: Node,
  signal: AbortSignal,
): Promise<{ at: number; read: number }> {
  const { kernels } = a.engine.graph;
  if (a.length !== b.length) return { at: Math.min(a.length, b.length), read: 0 };
  let read = 0;
  for (let at = 0; at < a.length;) {
    const wanted = Math.min(a.length - at, 1024 * STEP);
    const [one, other] = [
      await a.blockStatus(at, wanted, { signal }),
      await b.blockStatus(at, wanted, { signal }),
    ];
    if (one.zero && other.zero) {
      at += Math.min(one.bytes, other.bytes);
      continue;
    }
    const bytes = Math.min(STEP, one.bytes, other.bytes);
    const [left, right] = await Promise.all([a.read(at, bytes, { signal }), b.read(at, bytes, { signal })]);
    const difference = kernels.firstDifference(left, right);
    if (difference >= 0) return { at: at + difference, read };
    read += bytes;
    at += bytes;
  }
  return { at: -1, read };
}
