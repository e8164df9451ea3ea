/**
 * Active commit: the top of a chain is mirrored into a node below it, which takes its place when the job is completed.
 * Source: behaviour of QEMU 7.2's commit_active_start.
 */
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { OnError } from "../core/error-policy.ts";
import { type JobStartOptions, startMirrorJob } from "../mirror/mirror.ts";
import type { MirrorJob } from "../mirror/job.ts";

/** What block-commit has found out when it is an active one. */
export interface ActiveCommitOptions extends JobStartOptions {
  id: string;
  top: BlockNode;
  base: BlockNode;
  speed: number;
  onError: OnError;
  filterNodeName: string | undefined;
  autoFinalize: boolean | undefined;
  autoDismiss: boolean | undefined;
}

/** Starts the job; the base is writable for it. */
export function startActiveCommit(graph: BlockGraph, options: ActiveCommitOptions): Promise<MirrorJob> {
  const { top, base, onError } = options;
  return startMirrorJob(graph, {
    ...options,
    type: "commit",
    source: top,
    target: base,
    base,
    syncNone: false,
    zeroTarget: false,
    backingMode: "leave",
    replaces: undefined,
    granularity: 0,
    bufBytes: 0,
    onSourceError: onError,
    onTargetError: onError,
    unmap: true,
    writeBlocking: false,
  });
}
