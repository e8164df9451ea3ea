/**
 * Making an image in storage that is there already, for protocols that make none (an NBD export): it is opened, made as long as it
 * must be, and its first sector is cleared, so that nothing of what was there is taken for the new image.
 * Source: behaviour of QEMU 7.2's bdrv_create_file.
 */
import { closing } from "../../base/closing.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../base/errors.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import type { ChildRef, Edge, NodeSpec } from "../model/contract.ts";
import { isItsFile } from "../model/formats.ts";
import type { BlockNode } from "../model/node.ts";
import { Perm } from "../model/permissions.ts";
import type { BlockGraph } from "./graph.ts";

/** What is made. */
interface NewImage {
  readonly driver: string;
  readonly size: number;
  readonly preallocation?: unknown;
}

/** Whether storage is described that is there, and of whose kind none is made. */
export function isInPlace(graph: BlockGraph, file: unknown): file is NodeSpec {
  if (typeof file !== "object" || file === null) return false;
  return graph.driver((file as NodeSpec).driver).makesInPlace === true;
}

/** Makes an image there; `format` formats it, given what takes the place of its file. Throws in QEMU's words. */
export async function makeInPlace(
  graph: BlockGraph,
  { image, file }: { image: NewImage; file: NodeSpec },
  format: (storage: ChildRef) => Promise<void>,
): Promise<void> {
  const isPlain = isItsFile(graph.driver(image.driver));
  const { preallocation = "off" } = image;
  if (isPlain && preallocation !== "off")
    throw blockError("ENOTSUP", "create", `Unsupported preallocation mode '${String(preallocation)}'`);
  const node = await opened(graph, file);
  const make = async (): Promise<void> => {
    await graph.withRoot(node, { perm: Perm.write | Perm.resize, shared: Perm.all }, (edge) =>
      clear(edge, isPlain ? image.size : 0),
    );
    if (!isPlain) await format(node.name);
  };
  await closing(make, () => graph.release(node));
}

async function opened(graph: BlockGraph, file: NodeSpec): Promise<BlockNode> {
  try {
    return await graph.open({ ...file, "read-only": false });
  } catch (error) {
    const reason = `Protocol driver '${file.driver}' does not support image creation, and opening the image failed`;
    throw new BlockError({
      code: errnoOf(error),
      op: "create",
      message: `${reason}: ${messageOf(error)}`,
      cause: error,
    });
  }
}

async function clear(edge: Edge, bytes: number): Promise<void> {
  await edge.truncate(bytes, { exact: false, preallocation: "off" });
  const first = Math.min(edge.length, SECTOR_SIZE);
  if (first > 0) await edge.pwriteZeroes(0, first);
}
