/**
 * Changing the length of a disk.
 */
import { closing } from "../base/lease.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import type { Preallocation } from "../block/model/contract.ts";
import { Perm } from "../block/model/permissions.ts";
import { type Node, releaseIdle } from "./node.ts";
import { callOptions, checkLength, checkNodes, optionsOf } from "./options.ts";

/** Options of resize(). */
export interface ResizeOptions {
  /** How the new part is prepared; only for growing. Default off. */
  preallocation?: Preallocation;
  signal?: AbortSignal;
}

const checkOptions = optionsOf<ResizeOptions>({ ...callOptions, preallocation: "PreallocMode" });

/**
 * Sets the length of an open, writable disk to `bytes` (a multiple of 512 for formats). What lies beyond a smaller length is
 * lost. Throws BlockError in QEMU's words.
 */
export async function resize(node: Node, bytes: number, options: ResizeOptions = {}): Promise<void> {
  checkOptions(options);
  // What can be said exactly, the driver refuses in QEMU's words.
  checkNodes({ node });
  if (!Number.isSafeInteger(bytes) || bytes < 0) checkLength(bytes, "resize");
  const { preallocation = "off", signal } = options;
  signal?.throwIfAborted();
  await releaseIdle(node.engine);
  const backend = new BlockBackend(node.engine.graph);
  const truncate = async (): Promise<void> => {
    await backend.attach(node.blockNode, { perm: Perm.write | Perm.resize, shared: Perm.all });
    await backend.root!.truncate(bytes, { exact: true, preallocation });
  };
  await closing(truncate, () => backend.close());
}
