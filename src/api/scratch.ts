/** Where what a guest overwrites is kept while somebody reads its disk as it was, unless the caller says where. */
import { MiB } from "../base/limits.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import { memory } from "../drivers/protocol/memory.ts";

/** Most bytes that it takes. */
const SCRATCH_BYTES = 64 * MiB;

/** A disk of `length` bytes in memory, which holds 64 MiB of them at most. */
export function scratchMemory(graph: BlockGraph, length: number): NodeSpec {
  graph.register(memory);
  return { driver: memory.name, size: length, "max-bytes": SCRATCH_BYTES };
}
