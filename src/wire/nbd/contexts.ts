/**
 * Metadata contexts by name, and which of an export's a client's query asks for.
 * Source: doc/proto.md, "Metadata querying"; docs/interop/nbd.txt of QEMU for the namespace `qemu`.
 */

/** Holes and zeroes; see `allocation`. */
export const BASE_ALLOCATION = "base:allocation";
/** How far down the chain data lies; see `depthState`. */
export const ALLOCATION_DEPTH = "qemu:allocation-depth";
const DIRTY_BITMAP = "qemu:dirty-bitmap:";

/** The context of a dirty bitmap; see `DIRTY`. */
export function bitmapContext(bitmap: string): string {
  return `${DIRTY_BITMAP}${bitmap}`;
}

/** The bitmap of a context, if it is one's. */
export function bitmapOfContext(context: string): string | undefined {
  return context.startsWith(DIRTY_BITMAP) ? context.slice(DIRTY_BITMAP.length) : undefined;
}

function selects(query: string, context: string, list: boolean): boolean {
  if (query === context) return true;
  if (!list) return false;
  // A namespace, or the bitmaps' own, alone asks for all that it has; only a list may ask so.
  if (query === "base:" || query === "qemu:") return context.startsWith(query);
  return query === DIRTY_BITMAP && context.startsWith(DIRTY_BITMAP);
}

/** Those of `offered` for which the queries ask, in the order offered. `list`: no query at all asks for all, wildcards for a namespace. */
export function selectContexts(
  queries: readonly string[],
  offered: readonly string[],
  list: boolean,
): string[] {
  if (list && queries.length === 0) return [...offered];
  return offered.filter((context) => queries.some((query) => selects(query, context, list)));
}
