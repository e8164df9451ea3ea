/**
 * Starting block jobs from library code: typed options in TypeScript's case over the functions that the monitor calls.
 * Each returns the running job; its `done` settles when it has ended. Refusals are CommandErrors in QEMU's words.
 */
import { CommandError, messageOf, blockError } from "../base/errors.ts";
import { onAbort } from "../base/signals.ts";
import { skipFilters } from "../block/model/chain.ts";
import type { ChildRef } from "../block/model/contract.ts";
import { imageFilename } from "../block/model/filename.ts";
import { type BackupStartOptions, startBackup } from "../job/backup/backup.ts";
import type { BackupJob } from "../job/backup/job.ts";
import type { CommonJobArguments } from "../job/core/registry.ts";
import type { BlockJob } from "../job/core/block-job.ts";
import { startCommit } from "../job/commit/commit.ts";
import type { OnError } from "../job/core/error-policy.ts";
import { JobCancelledError } from "../job/core/job.ts";
import type { MirrorJob } from "../job/mirror/job.ts";
import { startMirror } from "../job/mirror/mirror.ts";
import type { JobCompanion } from "../job/core/companion.ts";
import { type StreamJob, startStream } from "../job/stream/stream.ts";
import type { Engine } from "../machine/engine.ts";
import { type AutoResumeOptions, autoResume, checkAutoResume } from "./auto-resume.ts";
import type { CheckpointRef } from "./checkpoint/file.ts";
import { betweenDisks, imageInChain, withCheckpoint, withUsableBitmap } from "./job-checkpoint.ts";
import { type CallOptions, Node, checkCall, releaseIdle } from "./node.ts";
import type { OpenSpec } from "./specs.ts";
import {
  callOptions,
  checkArgument,
  checkNodes,
  checkStorage,
  optionsOf,
  type OptionTable,
} from "./options.ts";
import { scratchMemory } from "./scratch.ts";
import type { ArgsOf, TypeOf } from "../wire/qapi/index.ts";

/** A node: its handle or its name. */
export type NodeRef = Node | string;

/** Options of every job. */
export interface JobOptions {
  /** Default: the job's type and a number (`mirror0`). */
  jobId?: string | undefined;
  /** Bytes per second; 0 (default): no limit. */
  speedBytesPerSecond?: number | undefined;
  /** False: the job waits in `pending` for finalize(). Default true. */
  autoFinalize?: boolean | undefined;
  /** False: the job stays `concluded` until dismiss(). Default true. */
  autoDismiss?: boolean | undefined;
  /** Name of the job's filter node. */
  filterNodeName?: string | undefined;
  /** Resumes the job when an error paused it and a probe of what failed succeeds; see autoResume(). Default: nobody does. */
  autoResume?: AutoResumeOptions | undefined;
  /**
   * Where a checkpoint is kept, a path or a file of the browser's (`{ driver: "indexeddb", filename }`), by which another process goes on
   * where this one was killed: by the same call with the same disks, or by resumeJob(). It goes when the job has ended well. EBUSY
   * while another process has it, EINVAL for one of other work, ESTALE where source or target were changed since. Default: none.
   */
  checkpoint?: CheckpointRef | undefined;
  /** Force-cancels the job when it aborts; `done` then rejects with a JobCancelledError, whose cause is its reason. */
  signal?: AbortSignal | undefined;
}

/** Options of mirror(). */
export interface MirrorOptions extends JobOptions {
  /**
   * full (default): everything; top: what the source's own image holds; none: only what is written from now on; bitmap: what
   * `bitmap` says, to bring a target up to date that was the same before (incremental: that with bitmapMode on-success).
   */
  sync?: TypeOf<"MirrorSyncMode"> | undefined;
  /** Name of a dirty bitmap of the source, for sync bitmap and incremental. Its granularity is the job's. It goes on recording. */
  bitmap?: string | undefined;
  /**
   * What becomes of the bitmap at the end. on-success: if the job succeeds, only what source and target differ in stays dirty
   * (after complete() and a soft cancel: nothing); always: that after a failure, too; never: the job leaves it alone.
   */
  bitmapMode?: TypeOf<"BitmapSyncMode"> | undefined;
  /** write-blocking copies guest writes as they happen. Default background. */
  copyMode?: "background" | "write-blocking" | undefined;
  /** Bytes of a bit of the dirty bitmap: a power of two, 512 … 64 MiB. Default: the target's cluster size. */
  granularity?: number | undefined;
  /** Most bytes in flight; default 16 MiB. */
  bufferBytes?: number | undefined;
  /** The target reads as zeroes, and is not zeroed first: what the source has nowhere is not written. With sync full. Default false. */
  targetIsZero?: boolean | undefined;
  /** The node to replace on completion; default: the source. */
  replaces?: NodeRef | undefined;
  /** On a failed read of the source; default report. */
  onSourceError?: OnError | undefined;
  /** On a failed write to the target; default report. */
  onTargetError?: OnError | undefined;
}

/** Options of backup(). */
export interface BackupOptions extends JobOptions {
  /** full (default), top, none, or what a bitmap says. */
  sync?: TypeOf<"MirrorSyncMode"> | undefined;
  /** Name of a dirty bitmap of the source. */
  bitmap?: string | undefined;
  bitmapMode?: TypeOf<"BitmapSyncMode"> | undefined;
  /** Stores compressed clusters; the target's format must be able to. */
  compress?: boolean | undefined;
  /** Copies at once; default 64. */
  maxWorkers?: number | undefined;
  /** Largest request, bytes; 0 (default): no limit. */
  maxChunkBytes?: number | undefined;
  /** What is copied before a guest's write is copied in pieces of so many bytes at least: a power of two. Default: the target's clusters. */
  minClusterBytes?: number | undefined;
  /** What was copied is discarded at the source, which nobody else needs (a `snapshot-access` node). Default false. */
  discardSource?: boolean | undefined;
  onSourceError?: OnError | undefined;
  onTargetError?: OnError | undefined;
  /**
   * What gives when what a guest is about to overwrite can't be copied to the target first: its write fails with the target's
   * error (break-guest-write, the default, as QEMU 7.2), or the backup does (break-snapshot).
   */
  onCbwError?: TypeOf<"OnCbwError"> | undefined;
  /**
   * True, or where: what a guest overwrites is kept in a scratch disk, so that it never fails or waits for the target's sake. If
   * the scratch disk has no room, the backup fails. With sync full, incremental or bitmap only. Default false.
   */
  fleecing?: boolean | FleecingOptions | undefined;
}

/** How a backup keeps what its guest overwrites. */
export interface FleecingOptions {
  /** A spec or a node, as long as the disk. What was backed up is freed in it. Default: 64 MiB of memory. */
  scratch?: OpenSpec | NodeRef | undefined;
}

/** Options of stream(). */
export interface StreamOptions extends JobOptions {
  /** The image (file name) that stays below; default: none, the node becomes independent. */
  base?: string | undefined;
  /** The same by node. */
  baseNode?: NodeRef | undefined;
  /** The lowest node to be streamed; its backing file stays. */
  bottom?: NodeRef | undefined;
  /** What the header shall say instead of the base's own name. */
  backingFile?: string | undefined;
  onError?: OnError | undefined;
}

/** Options of commit(). */
export interface CommitOptions extends JobOptions {
  /** The image (file name) to commit from; default: the node itself, and the job waits to be completed. */
  top?: string | undefined;
  topNode?: NodeRef | undefined;
  /** The image to commit into; default: the lowest. */
  base?: string | undefined;
  baseNode?: NodeRef | undefined;
  /** What the image above `top` shall name as its backing file. */
  backingFile?: string | undefined;
  onError?: OnError | undefined;
}

/** The types of every job's options. */
export const jobOptions = {
  ...callOptions,
  jobId: "str",
  speedBytesPerSecond: "Finite",
  autoFinalize: "bool",
  autoDismiss: "bool",
  filterNodeName: "str",
  autoResume: "AutoResume",
  checkpoint: "Storage",
} as const satisfies OptionTable<JobOptions>;

const onErrors = { onSourceError: "BlockdevOnError", onTargetError: "BlockdevOnError" } as const;

// Functions, so that a bundle has the tables only of the jobs that it starts.
function checkMirror(options: unknown): void {
  optionsOf<MirrorOptions>({
    ...jobOptions,
    ...onErrors,
    sync: "MirrorSyncMode",
    bitmap: "str",
    bitmapMode: "BitmapSyncMode",
    copyMode: "MirrorCopyMode",
    granularity: "int",
    bufferBytes: "int",
    targetIsZero: "bool",
    replaces: "NodeRef",
  })(options);
}

/** The types of backup()'s options. */
export const backupOptions = {
  ...jobOptions,
  ...onErrors,
  sync: "MirrorSyncMode",
  bitmap: "str",
  bitmapMode: "BitmapSyncMode",
  compress: "bool",
  maxWorkers: "int",
  maxChunkBytes: "int",
  minClusterBytes: "int",
  discardSource: "bool",
  onCbwError: "OnCbwError",
  fleecing: "Fleecing",
} as const satisfies OptionTable<BackupOptions>;

function checkBackup(options: unknown): void {
  optionsOf<BackupOptions>(backupOptions)(options);
}

function checkStream(options: unknown): void {
  optionsOf<StreamOptions>({
    ...jobOptions,
    base: "str",
    baseNode: "NodeRef",
    bottom: "NodeRef",
    backingFile: "str",
    onError: "BlockdevOnError",
  })(options);
}

function checkCommit(options: unknown): void {
  optionsOf<CommitOptions>({
    ...jobOptions,
    top: "str",
    topNode: "NodeRef",
    base: "str",
    baseNode: "NodeRef",
    backingFile: "str",
    onError: "BlockdevOnError",
  })(options);
}

/**
 * Copies `source` to `target` and keeps them the same. When the job is ready (whenReady()), complete() makes the target
 * take the source's place, and `cancel({ force: false })` leaves it as a consistent copy.
 */
export async function mirror(source: Node, target: Node, options: MirrorOptions = {}): Promise<MirrorJob> {
  checkMirror(options);
  checkBitmapNamed(options);
  const engine = await prepare({ source, target, options });
  const args = {
    ...commonArguments(options),
    ...given({
      bitmap: options.bitmap,
      "bitmap-mode": options.bitmapMode,
      granularity: options.granularity,
      "buf-size": options.bufferBytes,
      "copy-mode": options.copyMode,
      "target-is-zero": options.targetIsZero,
      replaces: nameOf(options.replaces),
      "on-source-error": options.onSourceError,
      "on-target-error": options.onTargetError,
    }),
    device: source.name,
    target: target.name,
    sync: options.sync ?? "full",
  };
  const { sync } = args;
  if (sync === "none") refuseCheckpoint(options, "a mirror of what will be written");
  const wish = {
    checkpoint: options.checkpoint,
    kind: "mirror",
    work: { sync, bitmap: args.bitmap, bitmapMode: args["bitmap-mode"] },
    ...betweenDisks(source, target, sync === "full"),
  } as const;
  return withCheckpoint(engine, wish, async (companion) => {
    const { signal } = options;
    const started = withUsableBitmap(source, args, companion);
    return watched(await startMirror(engine.graph, started, { signal, numbered: true, companion }), options);
  });
}

function refuseCheckpoint({ checkpoint }: JobOptions, what: string): void {
  if (checkpoint !== undefined)
    throw new CommandError(`There is no checkpoint of ${what}`, { code: "EINVAL" });
}

/** Throws CommandError where a bitmap is to be gone by, and none is named. */
function checkBitmapNamed({ sync, bitmap }: MirrorOptions): void {
  if ((sync !== "bitmap" && sync !== "incremental") || bitmap !== undefined) return;
  throw new CommandError(`must provide a valid bitmap name for '${sync}' sync mode`);
}

/** Copies the state that `source` has now to `target`, whatever is written to `source` meanwhile. */
export async function backup(source: Node, target: Node, options: BackupOptions = {}): Promise<BackupJob> {
  checkBackup(options);
  const engine = await prepare({ source, target, options });
  const args = backupArguments(source, target, options);
  const { sync } = args;
  if (sync === "none") refuseCheckpoint(options, "a backup of what will be overwritten");
  if (options.discardSource) refuseCheckpoint(options, "a backup that takes its source away");
  const wish = {
    checkpoint: options.checkpoint,
    kind: "backup",
    work: { sync, bitmap: args.bitmap, bitmapMode: args["bitmap-mode"], compress: args.compress },
    ...betweenDisks(source, target, sync === "full"),
  } as const;
  return withCheckpoint(engine, wish, async (companion) => {
    const started = withUsableBitmap(source, args, companion);
    const how = { ...backupStart(source, options), companion };
    return watched(await startBackup(engine.graph, started, how), options);
  });
}

/** What blockdev-backup does not take of it. Throws CommandError for a scratch disk that is none. */
export function backupStart(source: Node, options: BackupOptions): BackupStartOptions {
  const { signal, onCbwError, fleecing = false } = options;
  const { graph } = source.engine;
  const { scratch } = typeof fleecing === "object" ? fleecing : {};
  if (scratch !== undefined && !(scratch instanceof Node)) checkStorage(scratch, graph.drivers);
  const wished = (scratch instanceof Node ? scratch.name : scratch) as ChildRef | undefined;
  const kept = fleecing === false ? undefined : (wished ?? scratchMemory(graph, source.length));
  return { signal, onCbwError, scratch: kept, numbered: true };
}

/** What blockdev-backup takes for it. */
export function backupArguments(
  source: Node,
  target: Node,
  options: BackupOptions,
): ArgsOf<"blockdev-backup"> {
  return {
    ...commonArguments(options),
    ...given({
      bitmap: options.bitmap,
      "bitmap-mode": options.bitmapMode,
      compress: options.compress,
      "discard-source": options.discardSource,
      "on-source-error": options.onSourceError,
      "on-target-error": options.onTargetError,
    }),
    "x-perf": given({
      "max-workers": options.maxWorkers,
      "max-chunk": options.maxChunkBytes,
      "min-cluster-size": options.minClusterBytes,
    }),
    device: source.name,
    target: target.name,
    sync: options.sync ?? "full",
  };
}

/** Copies what `node` takes from its backing chain into `node`, and drops the images between. */
export async function stream(node: Node, options: StreamOptions = {}): Promise<StreamJob> {
  checkStream(options);
  const engine = await prepare({ source: node, options });
  const args = {
    ...commonArguments(options),
    ...given({
      base: options.base,
      "base-node": nameOf(options.baseNode),
      bottom: nameOf(options.bottom),
      "backing-file": options.backingFile,
      "on-error": options.onError,
    }),
    device: node.name,
  };
  const { base, baseNode, bottom, backingFile, checkpoint, signal } = options;
  const wish = {
    checkpoint,
    kind: "stream",
    work: { base: base ?? fileOf(engine, baseNode), bottom: fileOf(engine, bottom), backingFile },
    roots: { reads: [node.blockNode], writes: node.blockNode },
    shows: undefined,
    disks: [node.blockNode],
  } as const;
  return withCheckpoint(engine, wish, async (companion) =>
    watched(await startStream(engine.graph, args, { signal, numbered: true, companion }), options),
  );
}

/** Commits images of the node's chain into one below. Of the active image: a MirrorJob, to be completed when ready. */
export async function commit(node: Node, options: CommitOptions = {}): Promise<BlockJob> {
  checkCommit(options);
  const engine = await prepare({ source: node, options });
  if (skipFilters(node.blockNode).backing === undefined)
    throw new CommandError("Image does not have a backing file");
  const args = {
    ...commonArguments(options),
    ...given({
      top: options.top,
      "top-node": nameOf(options.topNode),
      base: options.base,
      "base-node": nameOf(options.baseNode),
      "backing-file": options.backingFile,
      "on-error": options.onError,
    }),
    device: node.name,
  };
  const { checkpoint, signal } = options;
  const start = async (companion?: JobCompanion): Promise<BlockJob> =>
    watched(await startCommit(engine.graph, args, { signal, numbered: true, companion }), options);
  if (checkpoint === undefined) return start();
  const base = imageInChain(node, { filename: options.base, nodeName: nameOf(options.baseNode) });
  const isTop = options.top === undefined && options.topNode === undefined;
  const top = isTop
    ? node.blockNode
    : imageInChain(node, { filename: options.top, nodeName: nameOf(options.topNode) });
  const { backingFile } = options;
  const wish = {
    checkpoint,
    kind: "commit",
    work: { base: imageFilename(base), top: isTop ? undefined : imageFilename(top), backingFile },
    roots: { reads: [node.blockNode], writes: base },
    shows: top,
    disks: [node.blockNode],
    length: top.length,
  } as const;
  return withCheckpoint(engine, wish, start);
}

/** Resolves when a mirror or active commit is ready to be completed; rejects with the job's error if it ends before. */
export async function whenReady(job: BlockJob, options: CallOptions = {}): Promise<void> {
  checkCall(options);
  checkArgument("job", job, "BlockJob");
  const { signal } = options;
  signal?.throwIfAborted();
  if (job.isReady) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (act: () => void) => (): void => {
      job.removeEventListener("BLOCK_JOB_READY", ready);
      forget();
      act();
    };
    const ready = settle(resolve);
    const forget = onAbort(
      signal,
      settle(() => reject(signal?.reason as Error)),
    );
    job.addEventListener("BLOCK_JOB_READY", ready);
    job.ended.then(ready, (error: Error) => {
      job.hears();
      settle(() => reject(error))();
    });
  });
}

/** A job that has begun, with what its options ask for beside it. */
export function watched<J extends BlockJob>(job: J, options: JobOptions): J {
  if (options.autoResume) autoResume(job, options.autoResume);
  job.ended.catch((error: unknown) => tellUnheard(job, error));
  return job;
}

/** The failure of a job that nobody waits for is told once, as that of a promise would be; a cancel is no failure. */
async function tellUnheard(job: BlockJob, error: unknown): Promise<void> {
  const { clock, diagnostics } = job.graph.host;
  await clock.turn();
  if (job.isHeard || error instanceof JobCancelledError) return;
  const words = `job '${job.id}' failed, and nobody waits for its end (job.done): ${messageOf(error)}`;
  diagnostics?.warn(words, "BLOCKWRIGHT_JOB_FAILED");
}

/** Checks that the nodes are of one engine, and takes back the permissions that handles hold. */
async function prepare(nodes: { source: Node; target?: Node; options: JobOptions }): Promise<Engine> {
  const { source, target, options } = nodes;
  options.signal?.throwIfAborted();
  if (options.autoResume) checkAutoResume(options.autoResume);
  checkNodes("target" in nodes ? { source, target } : { node: source });
  if (target && target.engine !== source.engine) {
    const message = "source and target are open in different engines";
    throw blockError("EINVAL", "job", message);
  }
  await releaseIdle(source.engine);
  return source.engine;
}

function commonArguments(options: JobOptions): {
  [K in keyof CommonArguments]?: Exclude<CommonArguments[K], undefined>;
} {
  return given({
    "job-id": options.jobId,
    speed: options.speedBytesPerSecond,
    "auto-finalize": options.autoFinalize,
    "auto-dismiss": options.autoDismiss,
    "filter-node-name": options.filterNodeName,
  });
}

interface CommonArguments extends CommonJobArguments {
  "filter-node-name"?: string;
}

/** The file of a node that is named, since names of nodes are another process's own. */
function fileOf({ graph }: Engine, node: NodeRef | undefined): string | undefined {
  return node === undefined ? undefined : imageFilename(graph.lookup(nameOf(node)!));
}

function nameOf(node: NodeRef | undefined): string | undefined {
  return typeof node === "object" ? node.name : node;
}

/** The members that have a value. */
function given<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
