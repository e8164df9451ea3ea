/**
 * Opening a disk on an NBD server.
 */
import { strerror } from "../../../base/errno.ts";
import { blockError } from "../../../base/errors.ts";
import type { Host } from "../../../base/host.ts";
import type { BlockDriver, NodeSpec, OpenContext } from "../../../block/model/contract.ts";
import { exportFlag } from "../../../wire/nbd/constants.ts";
import { NbdDriver } from "./driver.ts";
import { openLink } from "./link.ts";
import { nbdOptions } from "./options.ts";

/** Connects and agrees; `host` has the sockets. Rejects with CommandError, BlockError. */
export async function openNbd(
  context: OpenContext,
  spec: NodeSpec,
  host: Host = context.host,
): Promise<BlockDriver> {
  const { node } = context;
  const options = nbdOptions(spec, context);
  const link = await openLink(host, options);
  try {
    const { flags, contextId } = link.agreement;
    if (options.isContextNamed && contextId === undefined)
      throw blockError("EINVAL", "open", `Could not open image: ${strerror("EINVAL")}`);
    if ((flags & exportFlag.readOnly) !== 0 && !node.readOnly) {
      if (!node.options.autoReadOnly)
        throw blockError("EACCES", "open", `Could not open image: ${strerror("EACCES")}`);
      node.options = { ...node.options, readOnly: true };
    }
    return new NbdDriver(node, link);
  } catch (error) {
    await link.close();
    throw error;
  }
}
