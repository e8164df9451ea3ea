/**
 * The target image of drive-mirror and drive-backup: made in the wished format (unless it exists) and opened without its
 * backing file. Source: behaviour of QEMU 7.2's blockdev.c.
 */
import { backingChainNext, skipFilters } from "../../block/model/chain.ts";
import type { NodeSpec } from "../../block/model/contract.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { probeFormat } from "../../block/graph/open.ts";
import { imageFilename } from "../../block/model/filename.ts";

/** What a drive-* command says of its target. */
export interface TargetImage {
  source: BlockNode;
  /** File name. */
  target: string;
  format?: string | undefined;
  sync: "top" | "full" | "none" | "incremental" | "bitmap";
  mode: "existing" | "absolute-paths";
  nodeName?: string | undefined;
}

/** Makes the file if asked to, and opens it; the caller releases the node. A failed open removes nothing. */
export async function openTargetImage(graph: BlockGraph, image: TargetImage): Promise<BlockNode> {
  const file: NodeSpec = { driver: "file", filename: image.target };
  const format =
    image.format ?? (image.mode === "existing" ? await probeFormat(graph, file) : image.source.type.name);
  if (image.mode !== "existing") await createImage(graph, { image, format, file });
  return graph.open({
    driver: format,
    file,
    ...(graph.driver(format).supportsBacking ? { backing: null } : {}),
    ...(image.nodeName === undefined ? {} : { "node-name": image.nodeName }),
    discard: "unmap",
  });
}

async function createImage(
  graph: BlockGraph,
  { image, format, file }: { image: TargetImage; format: string; file: NodeSpec },
): Promise<void> {
  const context = { graph, host: graph.host };
  const type = graph.driver(format);
  const size = image.source.length;
  const backing = explicitBacking(image);
  const ownFile = type.create === undefined;
  await graph
    .driver("file")
    .create?.(context, { driver: "file", filename: image.target, size: ownFile ? size : 0 });
  await type.create?.(context, {
    driver: format,
    file,
    size,
    ...(backing
      ? { "backing-file": imageFilename(backing), "backing-fmt": skipFilters(backing).type.name }
      : {}),
  });
}

/** sync=top leaves the source's backing file below the target, sync=none the source itself. */
function explicitBacking(image: TargetImage): BlockNode | undefined {
  if (image.sync === "none") return image.source;
  return image.sync === "top" ? backingChainNext(image.source) : undefined;
}
