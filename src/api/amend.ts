/**
 * Amending an open image: what was chosen when it was made, as far as that can be changed.
 */
import { closing } from "../base/lease.ts";
import { amend as amendNode, checkAmendable } from "../block/graph/amend.ts";
import { BlockBackend } from "../block/graph/backend.ts";
import { Perm } from "../block/model/permissions.ts";
import { type CallOptions, type Node, releaseIdle } from "./node.ts";
import { checkNodes, followed, optionsOf } from "./options.ts";

/** What amend() changes, in the names of QAPI's BlockdevCreateOptions; what is absent stays. */
export interface AmendChanges {
  version?: "v2" | "v3";
  "lazy-refcounts"?: boolean;
  /** 1, 2, 4 … 64. */
  "refcount-bits"?: number;
  /** Bytes, a multiple of 512. A smaller size loses what lies beyond it. */
  size?: number;
  /** The name in the header; the file is not touched. */
  "data-file"?: string;
  /** Only `false` on an existing image. */
  "data-file-raw"?: boolean;
  /** Only what it is already. */
  "backing-file"?: string;
  "backing-fmt"?: string;
  /** Other options of the format (luks: its key slots). */
  [option: string]: unknown;
}

/** Options of amend(). */
export interface AmendImageOptions extends CallOptions {
  /** Does what may lose access to data. Default false. */
  force?: boolean;
  /** How far it is; `total` may grow. */
  onProgress?: (done: number, total: number) => void;
}

const checkOptions = optionsOf<AmendImageOptions>({ ...followed, force: "bool" });

/**
 * Changes an open, writable image. Steps that were done before one that fails stay done; the image is whole. Throws CommandError
 * in QEMU's words for what can't be changed, and BlockError.
 */
export async function amend(
  node: Node,
  changes: AmendChanges,
  options: AmendImageOptions = {},
): Promise<void> {
  checkOptions(options);
  checkNodes({ node });
  const { signal, force, onProgress } = options;
  signal?.throwIfAborted();
  checkAmendable(node.blockNode);
  await releaseIdle(node.engine);
  const backend = new BlockBackend(node.engine.graph);
  const change = async (): Promise<void> => {
    await backend.attach(node.blockNode, { perm: Perm.write | Perm.resize, shared: Perm.all & ~Perm.resize });
    await amendNode(node.blockNode, changes, {
      ...(force === undefined ? {} : { force }),
      ...(signal ? { signal } : {}),
      ...(onProgress ? { onProgress } : {}),
    });
  };
  await closing(change, () => backend.close());
}
