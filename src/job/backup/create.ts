/**
 * Making a backup job between two nodes: arguments checked in QEMU's order and words, the bitmap frozen, the
 * copy-before-write filter inserted. Source: behaviour of QEMU 7.2's blockdev.c and block/backup.c.
 */
import { CommandError, messageOf } from "../../base/errors.ts";
import type { BlockCopy } from "../../block/copy/block-copy.ts";
import { skipFilters } from "../../block/model/chain.ts";
import { type DirtyBitmap, findDirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { Perm } from "../../block/model/permissions.ts";
import { type CopyBeforeWrite, copyBeforeWrite } from "../../drivers/filter/copy-before-write.ts";
import type { ArgsOf } from "../../wire/qapi/index.ts";
import { BackupJob, type BackupPlan, type BackupSync, type BitmapMode } from "./job.ts";
import { devicePolicyOf } from "../core/device-policy.ts";
import { checkErrorPolicy } from "../core/error-policy.ts";
import { type StartOptions, deviceNameOf, jobOptions } from "../core/arguments.ts";

const MAX_INT = 2 ** 31 - 1;

/** The arguments that backups of both commands share. */
export type CommonBackupArgs = Omit<ArgsOf<"blockdev-backup">, "device" | "target">;

/** A backup between nodes that are known. */
export interface BackupRequest {
  source: BlockNode;
  target: BlockNode;
  args: CommonBackupArgs;
  options: StartOptions;
}

interface BitmapChoice {
  sync: BackupSync;
  bitmap: { bitmap: DirtyBitmap; mode: BitmapMode } | undefined;
}

/** Checks everything and makes the job, not started. `source` is drained. Nothing stays behind on failure. */
export async function createBackup(graph: BlockGraph, request: BackupRequest): Promise<BackupJob> {
  const { source, target, args } = request;
  const choice = chooseBitmap(source, args);
  const plan = checkNodes(graph, request, choice.sync);
  const { bitmap } = choice;
  if (bitmap) {
    if (bitmap.mode !== "never") bitmap.bitmap.check();
    bitmap.bitmap.createSuccessor();
  }
  try {
    if (source.length !== target.length) {
      throw new CommandError("Source and target image have different sizes");
    }
    return await withFilter(graph, request, (filter, copy) =>
      makeJob({ ...request, graph, plan, bitmap, filter, copy }),
    );
  } catch (error) {
    bitmap?.bitmap.reclaim();
    throw error;
  }
}

/** What the arguments on bitmaps say together. */
function chooseBitmap(source: BlockNode, args: CommonBackupArgs): BitmapChoice {
  const { sync } = args;
  let mode = args["bitmap-mode"];
  if ((sync === "bitmap" || sync === "incremental") && args.bitmap === undefined) {
    throw new CommandError(`must provide a valid bitmap name for '${sync}' sync mode`);
  }
  if (sync === "incremental") {
    if (mode !== undefined && mode !== "on-success") {
      throw new CommandError("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
    }
    mode = "on-success";
  }
  const effective: BackupSync = sync === "incremental" ? "bitmap" : sync;
  if (args.bitmap === undefined) {
    if (mode !== undefined) throw new CommandError("Cannot specify bitmap sync mode without a bitmap");
    return { sync: effective, bitmap: undefined };
  }
  return { sync: effective, bitmap: findBitmap(source, { name: args.bitmap, mode, sync: effective }) };
}

function findBitmap(
  source: BlockNode,
  { name, mode, sync }: { name: string; mode: BitmapMode | undefined; sync: BackupSync },
): { bitmap: DirtyBitmap; mode: BitmapMode } {
  const bitmap = findDirtyBitmap(source, name);
  if (!bitmap) throw new CommandError(`Bitmap '${name}' could not be found`);
  if (mode === undefined) throw new CommandError("Bitmap sync mode must be given when providing a bitmap");
  bitmap.check({ readOnly: true });
  if (sync === "none") {
    throw new CommandError("sync mode 'none' does not produce meaningful bitmap outputs");
  }
  if (mode === "never" && sync !== "bitmap") {
    throw new CommandError(
      `Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '${sync}'`,
    );
  }
  return { bitmap, mode };
}

function checkNodes(
  graph: BlockGraph,
  { source, target, args }: BackupRequest,
  sync: BackupSync,
): BackupPlan {
  if (source === target) throw new CommandError("Source and target cannot be the same");
  const onSourceError = args["on-source-error"] ?? "report";
  const device = devicePolicyOf(source);
  const strict = graph.strictErrorPolicy;
  checkErrorPolicy({ strict, jobType: "backup", policy: onSourceError, argument: "on-source-error", device });
  const compress = args.compress ?? false;
  if (compress && !skipFilters(target).type.compressedWrites) {
    throw new CommandError(`Compression is not supported for this drive ${deviceNameOf(graph, target)}`);
  }
  source.checkBlocked("backup-source");
  target.checkBlocked("backup-target");
  const { "max-workers": maxWorkers = 64, "max-chunk": maxChunk = 0 } = args["x-perf"] ?? {};
  if (maxWorkers < 1 || maxWorkers > MAX_INT) {
    throw new CommandError(`max-workers must be between 1 and ${MAX_INT}`);
  }
  if (maxChunk < 0) {
    throw new CommandError("max-chunk must be zero (which means no limit) or positive");
  }
  const onTargetError = args["on-target-error"] ?? "report";
  return { sync, onSourceError, onTargetError, maxWorkers, maxChunk, compress };
}

/** Inserts the filter above the source; it goes again if `body` fails. */
async function withFilter<T>(
  graph: BlockGraph,
  { source, target, args }: BackupRequest,
  body: (filter: BlockNode, copy: BlockCopy) => Promise<T>,
): Promise<T> {
  const name = args["filter-node-name"];
  // The job needs this driver, whatever the caller has registered.
  graph.register(copyBeforeWrite);
  const spec = {
    driver: copyBeforeWrite.name,
    file: source.name,
    target: target.name,
    discard: "unmap" as const,
    ...(name === undefined ? {} : { "node-name": name }),
  };
  const filter = await graph
    .insertFilter(spec, source, { implicit: name === undefined })
    .catch((error: unknown) => {
      throw new CommandError(`Could not create node: ${messageOf(error)}`, { cause: error });
    });
  try {
    return await body(filter, (filter.driver as CopyBeforeWrite).copy);
  } catch (error) {
    await graph.removeFilter(filter);
    throw error;
  }
}

interface JobParts extends BackupRequest {
  graph: BlockGraph;
  plan: BackupPlan;
  bitmap: BitmapChoice["bitmap"];
  filter: BlockNode;
  copy: BlockCopy;
}

async function makeJob(parts: JobParts): Promise<BackupJob> {
  const { graph, args, plan, copy, filter, options } = parts;
  if (plan.maxChunk > 0 && plan.maxChunk < copy.clusterSize) {
    throw new CommandError(
      `Required max-chunk (${plan.maxChunk}) is less than backup cluster size (${copy.clusterSize})`,
    );
  }
  const job = new BackupJob({
    ...jobOptions(graph, parts.source, args, { ...options, type: "backup" }),
    plan,
    filter,
    copy,
    bitmap: parts.bitmap,
  });
  try {
    await job.addNode(filter, "main node", { perm: 0, shared: Perm.all });
    job.setSpeed(args.speed ?? 0);
    copy.configure({ compress: plan.compress });
    await job.addNode(parts.target, "target", { perm: 0, shared: Perm.all });
    return job;
  } catch (error) {
    await job.earlyFail(error);
    throw error;
  }
}
