/**
 * What an engine does otherwise in a program that runs under one of QEMU's names.
 */
import { endProcess } from "../platform/node/exit.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import { printableMessage } from "./printable.ts";
import { standIn } from "./program.ts";

/** To be called before the first node is opened. */
export function beLikeQemu(graph: BlockGraph): void {
  if (standIn() === undefined) return;
  graph.isLikeQemu = true;
  graph.onDifference = (words) => {
    process.stderr.write(`${printableMessage(words)}\n`);
    endProcess(1);
  };
}
