/**
 * An overlay as a whole: what a guest has written on top of an image that stays as it is.
 */
import { BlockError } from "../base/errors.ts";
import { skipImplicitFilters } from "../block/model/chain.ts";
import { drained } from "../block/model/drain.ts";
import type { BlockNode } from "../block/model/node.ts";
import type { Node } from "./node.ts";
import { checkNoGuestRuns, type WholeDiskOptions } from "./running-guest.ts";
import { checkNodes } from "./options.ts";

/**
 * Throws away what the disk's own image holds, so that its backing file shows through again; durable when it resolves. A
 * guest must not run from it: EBUSY (see WholeDiskOptions). EINVAL without a backing file, ENOTSUP where the format can't, EACCES for a disk that is
 * open for reading only, EBUSY with dirty bitmaps, CommandError while a job uses the image.
 */
export async function discardOverlay(node: Node, options: WholeDiskOptions = {}): Promise<void> {
  checkNodes({ node });
  const image = skipImplicitFilters(node.blockNode);
  const refuse = (code: "EINVAL" | "ENOTSUP" | "EACCES" | "EBUSY", message: string): never => {
    throw new BlockError({ code, op: "discard-overlay", node: image.name, message });
  };
  if (!image.backing) refuse("EINVAL", `node '${image.name}' has no backing file that could show through`);
  if (!image.driver.makeEmpty) refuse("ENOTSUP", `format '${image.type.name}' cannot be emptied`);
  if (image.readOnly) refuse("EACCES", `node '${image.name}' is read-only`);
  if (image.dirtyBitmaps.length > 0) refuse("EBUSY", "Device has active dirty bitmaps");
  checkNoGuestRuns(node, image, options);
  image.checkBlocked("resize");
  await emptyImage(image);
  await node.flush();
}

/** Drops what a writable image holds itself. Its format must be able to (ENOTSUP). Durable after a flush of the image. */
export async function emptyImage(image: BlockNode): Promise<void> {
  const { driver } = image;
  if (!driver.makeEmpty) throw new BlockError({ code: "ENOTSUP", op: "make-empty", node: image.name });
  await drained([image], () => driver.makeEmpty!());
}
