/**
 * What an export's metadata contexts say of a range: allocation, depth, dirty bitmaps.
 *
 * Invariants: the extents begin at the range's start, lie within it, and neighbours differ; there are at most as many as asked for,
 * and at least one. Source: doc/proto.md, "Metadata querying"; behaviour of qemu-nbd 7.2.
 */
import { isPromise } from "../../base/answer.ts";
import type { Clock } from "../../base/host.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import type { ChainStatus } from "../../block/io/status.ts";
import type { DirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { ByteRange } from "../../base/ranges.ts";
import { allocation, DIRTY } from "../../wire/nbd/constants.ts";
import { ALLOCATION_DEPTH, BASE_ALLOCATION, bitmapContext } from "../../wire/nbd/contexts.ts";
import type { StatusExtent } from "../../wire/nbd/transmission.ts";

/** Extents after which others get their turn. */
const TURN_AFTER = 4096;

/** What is asked of a context. */
export interface StatusRequest extends ByteRange {
  /** Most extents of the answer. */
  readonly most: number;
}

/** One context of an export. */
export interface ExportContext {
  readonly name: string;
  extents(request: StatusRequest): Promise<StatusExtent[]>;
}

/** Extents that are put together as they come. */
class Extents {
  readonly list: { length: number; flags: number }[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** False: there is no room for it, and the list is complete. */
  add(length: number, flags: number): boolean {
    const last = this.list.at(-1);
    if (last && last.flags === flags) last.length += length;
    else if (this.list.length === this.#most) return false;
    else this.list.push({ length, flags });
    return true;
  }
}

/** Extents by the chain's block status. */
async function byStatus(
  backend: BlockBackend,
  { offset, bytes, most }: StatusRequest,
  flagsOf: (status: ChainStatus) => number,
): Promise<StatusExtent[]> {
  const extents = new Extents(most);
  const clock: Clock = backend.graph.host.clock;
  const end = offset + bytes;
  let steps = 0;
  for (let at = offset; at < end;) {
    const asked = backend.status(at, end - at);
    const status = isPromise(asked) ? await asked : asked;
    if (!extents.add(status.bytes, flagsOf(status))) break;
    at += status.bytes;
    steps += 1;
    if (steps % TURN_AFTER === 0) await clock.turn();
  }
  return extents.list;
}

function allocationFlags({ data, zero }: ChainStatus): number {
  return (data ? 0 : allocation.hole) | (zero ? allocation.zero : 0);
}

/** `base:allocation`. */
export function allocationContext(backend: BlockBackend): ExportContext {
  return {
    name: BASE_ALLOCATION,
    extents: (request) => byStatus(backend, request, allocationFlags),
  };
}

/** `qemu:allocation-depth`: 0 where no layer has anything, else its number from the top. */
export function depthContext(backend: BlockBackend): ExportContext {
  return {
    name: ALLOCATION_DEPTH,
    extents: (request) => byStatus(backend, request, ({ allocated, depth }) => (allocated ? depth : 0)),
  };
}

/** `qemu:dirty-bitmap:NAME`. */
export function dirtyContext(name: string, dirty: DirtyBitmap): ExportContext {
  return {
    name: bitmapContext(name),
    extents: ({ offset, bytes, most }) => Promise.resolve(dirtyExtents(dirty, { offset, bytes, most })),
  };
}

function dirtyExtents({ bitmap }: DirtyBitmap, { offset, bytes, most }: StatusRequest): StatusExtent[] {
  const extents = new Extents(most);
  const end = Math.min(offset + bytes, bitmap.length);
  let at = offset;
  for (const run of bitmap.extents(offset, end, most)) {
    if (run.offset > at && !extents.add(run.offset - at, 0)) return extents.list;
    if (!extents.add(run.bytes, DIRTY)) return extents.list;
    at = run.offset + run.bytes;
  }
  // All runs were listed, or as many as the answer has room for.
  if (at < offset + bytes && extents.list.length < most) extents.add(offset + bytes - at, 0);
  return extents.list;
}
