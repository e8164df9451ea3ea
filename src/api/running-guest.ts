/**
 * A guest that runs from a disk keeps what it read in its memory, and writes it back: its disk must not become another one
 * under it.
 */
import { BlockError } from "../base/errors.ts";
import { chainContains } from "../block/model/chain.ts";
import type { BlockNode } from "../block/model/node.ts";
import type { Node } from "./node.ts";
import { optionsOf } from "./options.ts";

/** Options of what changes a disk's content as a whole. */
export interface WholeDiskOptions {
  /** Does it although a guest runs from the disk, whose file system is damaged by it unless it knows. Default false. */
  underRunningGuest?: boolean;
}

const checkOptions = optionsOf<WholeDiskOptions>({ underRunningGuest: "bool" });

/** Throws EBUSY while the machine runs with a guest's disk that `image` is part of, unless the caller wants that. */
export function checkNoGuestRuns({ engine }: Node, image: BlockNode, options: WholeDiskOptions): void {
  checkOptions(options);
  const { machine } = engine;
  if (options.underRunningGuest || !machine.isRunning) return;
  for (const { name, backend } of machine.devices) {
    if (!backend.node || !chainContains(backend.node, image)) continue;
    const message = `the guest of '${name}' runs from node '${image.name}': stop it first`;
    throw new BlockError({ code: "EBUSY", op: "guest", node: image.name, message });
  }
}
