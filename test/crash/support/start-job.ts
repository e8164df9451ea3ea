// Starts a job in an engine by its QMP command.
import type { BlockJob } from "../../../src/job/core/block-job.ts";
import { startBackup } from "../../../src/job/backup/backup.ts";
import { startCommit } from "../../../src/job/commit/commit.ts";
import { startMirror } from "../../../src/job/mirror/mirror.ts";
import { startStream } from "../../../src/job/stream/stream.ts";
import type { Engine } from "../../../src/machine/engine.ts";

/** Starts the job of block-stream, block-commit, blockdev-mirror or blockdev-backup. */
export function startJob(
  { graph }: Engine,
  { execute, arguments: args }: { execute: string; arguments: Record<string, unknown> },
): Promise<BlockJob> {
  const given = args as never;
  if (execute === "block-stream") return startStream(graph, given);
  if (execute === "block-commit") return startCommit(graph, given);
  if (execute === "blockdev-mirror") return startMirror(graph, given);
  if (execute === "blockdev-backup") return startBackup(graph, given);
  throw new Error(`no job is started by ${execute}`);
}
