/**
 * What an engine does otherwise in a program that runs under one of QEMU's names, or speaks no more than QEMU's QMP.
 */
import { endProcess } from "../platform/node/exit.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import type { CompatLevel } from "../wire/qapi/index.ts";
import { printableMessage } from "./printable.ts";
import { standIn } from "./program.ts";

/** To be called before the first node is opened. `compat`: whose commands a monitor takes; absent: there is none. */
export function beLikeQemu(graph: BlockGraph, compat: CompatLevel = "blockwright"): void {
  graph.isLikeQemu = standIn() !== undefined || compat !== "blockwright";
  if (standIn() === undefined) return;
  graph.onDifference = (words) => {
    process.stderr.write(`${printableMessage(words)}\n`);
    endProcess(1);
  };
}
