/**
 * The target image of drive-mirror and drive-backup: made in the wished format (unless it exists) and opened without its
 * backing file. Source: behaviour of QEMU 7.2's blockdev.c.
 */
import { CommandError } from "../../base/errors.ts";
import { backingChainNext, skipFilters } from "../../block/model/chain.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { findDriver } from "../../block/model/options.ts";
import { type FoundFormat, probeFormat } from "../../block/graph/probe.ts";
import type { NewImage } from "../../block/graph/home.ts";
import { makeImageFile } from "../../block/graph/new-image.ts";
import { storageByName } from "../../block/graph/storage-name.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";

/** What a drive-* command says of its target. */
export interface TargetImage {
  source: BlockNode;
  /** File name. */
  target: string;
  format?: string | undefined;
  sync: TypeOf<"MirrorSyncMode">;
  mode: TypeOf<"NewImageMode">;
  nodeName?: string | undefined;
}

/** Makes the file if asked to, and opens it; the caller releases the node. A failed open removes nothing. */
export async function openTargetImage(graph: BlockGraph, image: TargetImage): Promise<BlockNode> {
  const file = await storageByName(graph, image.target);
  const found: FoundFormat =
    image.format === undefined && image.mode === "existing"
      ? await probeFormat(graph, file)
      : { driver: image.format ?? image.source.type.name };
  if (image.mode !== "existing") checkMakes(graph, found.driver, explicitBacking(image));
  const type = graph.driver(found.driver);
  if (image.mode !== "existing") await makeImageFile(graph, newImage(image, type.name));
  // A protocol in the place of a format is the storage itself.
  const own = type.kind === "protocol" ? { ...file, driver: type.name } : { ...found, file };
  return graph.open({
    ...own,
    ...(type.supportsBacking ? { backing: null } : {}),
    ...(image.nodeName === undefined ? {} : { "node-name": image.nodeName }),
    discard: "unmap",
  });
}

/** Throws CommandError where no such image can be made. */
function checkMakes(graph: BlockGraph, format: string, backing: BlockNode | undefined): void {
  const type = findDriver(graph, format);
  if (!type) throw new CommandError(`Unknown file format '${format}'`);
  if (type.kind === "filter")
    throw new CommandError(`Format driver '${format}' does not support image creation`);
  if (backing && type.kind === "format" && !type.supportsBacking)
    throw new CommandError(`Backing file not supported for file format '${format}'`);
}

function newImage(image: TargetImage, format: string): NewImage {
  const node = explicitBacking(image);
  return {
    format,
    filename: image.target,
    size: image.source.length,
    backing: node && { node, format: skipFilters(node).type.name },
  };
}

/** sync=top leaves the source's backing file below the target, sync=none the source itself. */
function explicitBacking(image: TargetImage): BlockNode | undefined {
  if (image.sync === "none") return image.source;
  return image.sync === "top" ? backingChainNext(image.source) : undefined;
}
