/**
 * Making an image in storage that is there already, for protocols that make none (an NBD export): it is opened, made as long as it
 * must be, and its first sector is cleared, so that nothing of what was there is taken for the new image.
 * Source: behaviour of QEMU 7.2's bdrv_create_file.
 */
import { closing } from "../../base/lease.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../base/errors.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import type { DriverType, Edge, GraphView, NodeSpec, NodeView } from "../model/contract.ts";
import { findDriver, isItsFile } from "../model/options.ts";
import { Perm } from "../model/permissions.ts";

/** Makes an image there; `format` formats it, given what takes the place of its file. Throws in QEMU's words. */
export const makeInPlace: NonNullable<DriverType["makeInPlace"]> = async (graph, { image, file }, format) => {
  const type = findDriver(graph, image.driver);
  const isPlain = type !== undefined && isItsFile(type);
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
};

async function opened(graph: GraphView, file: NodeSpec): Promise<NodeView> {
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
