/**
 * The map of a disk in few cells, for pictures: what the most part of each cell's beginning is. Cost follows the cells, not the disk.
 */
import { KiB } from "../../base/limits.ts";
import { alignUp } from "../../base/ranges.ts";
import { blockStatusAbove } from "../../block/io/status.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { DashboardReturnOf } from "../../wire/qapi/dashboard.ts";

type DiskMap = DashboardReturnOf<"x-blockwright-query-map">;
type State = DiskMap["extents"][number]["state"];

/** The least bytes of a cell: a cluster of most images. */
const LEAST_CELL = 64 * KiB;

/** Status queries of one cell at most: a cell with more pieces is what its first ones are. */
const LOOKS = 8;

/** The later ones hide the earlier ones in a cell. */
const ORDER: readonly State[] = ["hole", "zero", "backing", "data"];

/** Looks at a disk. Throws BlockError when metadata can't be read. */
export async function cellMap(node: BlockNode, maxCells: number): Promise<DiskMap> {
  const size = node.length;
  const cellBytes = Math.max(LEAST_CELL, alignUp(Math.ceil(size / maxCells), LEAST_CELL));
  const extents: DiskMap["extents"] = [];
  const add = (cell: number, cells: number, state: State): void => {
    const last = extents.at(-1);
    if (last?.state === state) last.cells += cells;
    else extents.push({ cell, cells, state });
  };
  const count = Math.ceil(size / cellBytes);
  for (let cell = 0; cell < count;) {
    const start = cell * cellBytes;
    const { state, bytes } = await statusAt(node, start, size - start);
    const whole = start + bytes >= size ? count - cell : Math.floor(bytes / cellBytes);
    if (whole > 0) add(cell, whole, state);
    else add(cell, 1, await mixed(node, { start, end: Math.min(size, start + cellBytes) }));
    cell += Math.max(1, whole);
  }
  return { size, "cell-bytes": cellBytes, extents };
}

async function statusAt(
  node: BlockNode,
  offset: number,
  bytes: number,
): Promise<{ state: State; bytes: number }> {
  const status = await blockStatusAbove(node, offset, bytes);
  const state = !status.allocated
    ? "hole"
    : status.zero
      ? "zero"
      : status.depth > 1
        ? "backing"
        : ("data" as const);
  return { state, bytes: status.bytes };
}

/** A cell of several pieces. */
async function mixed(node: BlockNode, { start, end }: { start: number; end: number }): Promise<State> {
  let found = 0;
  let at = start;
  for (let looks = 0; looks < LOOKS && at < end; looks++) {
    const { state, bytes } = await statusAt(node, at, end - at);
    found = Math.max(found, ORDER.indexOf(state));
    at += bytes;
  }
  return ORDER[found]!;
}
