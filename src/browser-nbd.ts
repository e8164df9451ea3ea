/**
 * Opening a disk on an NBD server from a page: the driver over the page's WebSockets. A file of its own, since entries load it at
 * different times.
 */
import type { BlockDriver, NodeSpec, OpenContext } from "./block/model/contract.ts";
import { openNbd } from "./drivers/protocol/nbd/open.ts";
import { pageSockets } from "./platform/browser/sockets.ts";

/** Connects and agrees. Rejects with CommandError, BlockError. */
export function openNbdFromPage(context: OpenContext, spec: NodeSpec): Promise<BlockDriver> {
  return openNbd(context, spec, { ...context.host, sockets: pageSockets });
}
