/**
 * Making a backup job between two nodes: arguments checked in QEMU's order and words, the bitmap frozen, the
 * copy-before-write filter inserted. Source: behaviour of QEMU 7.2's blockdev.c and block/backup.c.
 */
import { CommandError, messageOf } from "../../base/errors.ts";
import { MiB } from "../../base/limits.ts";
import { Lease } from "../../base/lease.ts";
import type { FilterLease } from "../../block/graph/edges.ts";
import { skipFilters } from "../../block/model/chain.ts";
import { type DirtyBitmap, findDirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { Perm } from "../../block/model/permissions.ts";
import { CopyBeforeWrite, copyBeforeWrite } from "../../drivers/filter/copy-before-write.ts";
import type { ArgsOf, TypeOf } from "../../wire/qapi/index.ts";
import type { ChildRef } from "../../block/model/contract.ts";
import { BackupJob, type BackupPlan, type BackupSync, type BitmapMode } from "./job.ts";
import { type PointInTime, pointInTime } from "./point-in-time.ts";
import { prepareJob } from "../start.ts";
import { devicePolicyOf } from "../core/device-policy.ts";
import { checkErrorPolicy } from "../core/error-policy.ts";
import { type StartOptions, deviceNameOf, jobOptions } from "../core/registry.ts";

const MAX_INT = 2 ** 31 - 1;

/** The arguments that backups of both commands share. */
export type CommonBackupArgs = Omit<ArgsOf<"blockdev-backup">, "device" | "target"> & NewerBackupArgs;

/** Arguments that newer QEMU has. */
interface NewerBackupArgs {
  /** What was copied is discarded at the source, which nobody else needs (a view of a moment). */
  "discard-source"?: boolean;
  "on-cbw-error"?: TypeOf<"OnCbwError">;
  "x-perf"?: TypeOf<"BackupPerf"> & { "min-cluster-size"?: number };
}

/** What a caller inside the program may add, beside what every job takes. */
export interface BackupStartOptions extends StartOptions {
  /** What gives when what a guest is about to overwrite can't be copied: its write (the default), or the backup. */
  onCbwError?: TypeOf<"OnCbwError"> | undefined;
  /** Where what a guest overwrites is kept, so that it never waits for the target (fleecing). */
  scratch?: ChildRef | undefined;
}

/** A backup between nodes that are known. */
export interface BackupRequest {
  source: BlockNode;
  target: BlockNode;
  args: CommonBackupArgs;
  options: BackupStartOptions;
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
  const { scratch } = request.options;
  if (scratch !== undefined) checkFleecing(choice.sync);
  return prepareJob({
    async take(leases) {
      if (bitmap) leases.add(splitBitmap(bitmap));
      if (source.length !== target.length)
        throw new CommandError("Source and target image have different sizes");
      const moment =
        scratch === undefined ? undefined : leases.add(await pointInTime(graph, source, scratch));
      const filter = await insertFilter(graph, { ...request, source: moment?.node ?? source });
      return { moment, filter: leases.add(filter) };
    },
    make: ({ moment, filter }) => makeJob({ ...request, graph, plan, bitmap, filter, moment }),
    hold: async (job, { filter }) => {
      await job.addNode(filter.node, "main node", { perm: 0, shared: Perm.all });
      const driver = filter.driver(CopyBeforeWrite);
      driver.copy.configure({ compress: plan.compress });
      if (plan.discardSource) await driver.discardWhatIsCopied();
      // What was copied is looked at for a checkpoint.
      const perm = request.options.companion ? Perm.consistentRead : 0;
      await job.addNode(target, "target", { perm, shared: Perm.all });
    },
    speed: args.speed,
  });
}

/** A moment shows what a disk held, and not which of its layers did; and whoever copies nothing needs none. */
function checkFleecing(sync: BackupSync): void {
  if (sync === "full" || sync === "bitmap") return;
  throw new CommandError(`Fleecing copies all of a disk, or what a bitmap says: not sync mode '${sync}'`);
}

/** From now on the guest's writes go to a successor; the job decides what becomes of both, unless it is never made. */
function splitBitmap({ bitmap, mode }: { bitmap: DirtyBitmap; mode: BitmapMode }): Lease {
  if (mode !== "never") bitmap.check();
  bitmap.createSuccessor();
  return new Lease(() => bitmap.reclaim());
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
  { source, target, args, options }: BackupRequest,
  sync: BackupSync,
): BackupPlan {
  if (source === target) throw new CommandError("Source and target cannot be the same");
  const onSourceError = args["on-source-error"] ?? "report";
  const device = devicePolicyOf(source);
  const strict = graph.strictErrorPolicy;
  checkErrorPolicy({ strict, jobType: "backup", policy: onSourceError, argument: "on-source-error", device });
  const compress = args.compress ?? false;
  if (compress && !skipFilters(target).type.compressedWrites) {
    throw new CommandError(`Compression is not supported for this drive ${deviceNameOf(graph, target)}`, {
      code: "ENOTSUP",
    });
  }
  source.checkBlocked("backup-source");
  target.checkBlocked("backup-target");
  const { "max-workers": maxWorkers = mostWorkers(options), "max-chunk": maxChunk = 0 } =
    args["x-perf"] ?? {};
  if (maxWorkers < 1 || maxWorkers > MAX_INT) {
    throw new CommandError(`max-workers must be between 1 and ${MAX_INT}`);
  }
  if (maxChunk < 0) {
    throw new CommandError("max-chunk must be zero (which means no limit) or positive");
  }
  const onTargetError = args["on-target-error"] ?? "report";
  const discardSource = args["discard-source"] ?? false;
  return { sync, onSourceError, onTargetError, maxWorkers, maxChunk, compress, discardSource };
}

function mostWorkers({ companion }: BackupStartOptions): number {
  return companion ? Math.min(64, Math.max(1, Math.floor(companion.underWayBytes / MiB))) : 64;
}

/** Inserts the filter above the source. */
function insertFilter(graph: BlockGraph, request: BackupRequest): Promise<FilterLease> {
  const { source, target, args, options } = request;
  const name = args["filter-node-name"];
  const onCbwError = options.onCbwError ?? args["on-cbw-error"];
  const minCluster = args["x-perf"]?.["min-cluster-size"];
  // The job needs this driver, whatever the caller has registered.
  graph.register(copyBeforeWrite);
  const spec = {
    driver: copyBeforeWrite.name,
    file: source.name,
    target: target.name,
    discard: "unmap" as const,
    ...(onCbwError === undefined ? {} : { "on-cbw-error": onCbwError }),
    ...(minCluster === undefined ? {} : { "min-cluster-size": minCluster }),
    ...(name === undefined ? {} : { "node-name": name }),
  };
  return graph.insertFilter(spec, source, { implicit: name === undefined }).catch((error: unknown) => {
    throw new CommandError(`Could not create node: ${messageOf(error)}`, { cause: error });
  });
}

interface JobParts extends BackupRequest {
  graph: BlockGraph;
  plan: BackupPlan;
  bitmap: BitmapChoice["bitmap"];
  filter: FilterLease;
  moment: PointInTime | undefined;
}

function makeJob(parts: JobParts): BackupJob {
  const { graph, source, args, options, plan, bitmap, filter, moment } = parts;
  const { copy } = filter.driver(CopyBeforeWrite);
  if (plan.maxChunk > 0 && plan.maxChunk < copy.clusterSize) {
    throw new CommandError(
      `Required max-chunk (${plan.maxChunk}) is less than backup cluster size (${copy.clusterSize})`,
    );
  }
  const { signal, transaction, numbered, companion } = options;
  // By now the filter is what the device sees, unless a moment lies between them.
  const named = moment ? source : filter.node;
  const common = jobOptions(graph, named, args, { signal, transaction, numbered, companion, type: "backup" });
  return new BackupJob({ ...common, plan, filter, copy, bitmap, moment });
}
