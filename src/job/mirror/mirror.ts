/**
 * Starting a mirror, a drive-mirror or an active commit: arguments checked in QEMU's order and words, the filter
 * inserted above the source, permissions taken, the job made and started. Source: behaviour of QEMU 7.2's blockdev.c
 * and block/mirror.c.
 */
import { CommandError } from "../../base/errors.ts";
import { MiB, limits } from "../../base/limits.ts";
import { isPowerOfTwo } from "../../base/ranges.ts";
import {
  backingChainNext,
  chainContains,
  filterOrCow,
  freezeChain,
  mayReplace,
  skipFilters,
  skipImplicitFilters,
} from "../../block/model/chain.ts";
import type { ChildParent, BlockNode } from "../../block/model/node.ts";
import { defaultGranularity } from "../../block/model/dirty-bitmap.ts";
import { refresh, type FilterLease, unnamedDevice } from "../../block/graph/edges.ts";
import { failed, Lease, type Leases } from "../../base/lease.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { Perm } from "../../block/model/permissions.ts";
import type { Permissions } from "../../block/model/contract.ts";
import type { ArgsOf } from "../../wire/qapi/index.ts";
import { type OnError, checkErrorPolicy } from "../core/error-policy.ts";
import { devicePolicyOf } from "../core/device-policy.ts";
import { startJob } from "../start.ts";
import { type BitmapArgs, type SyncBitmap, chooseSyncBitmap, useSyncBitmap } from "./by-bitmap.ts";
import type { BackingMode } from "./init.ts";
import { MirrorJob } from "./job.ts";
import { MirrorTop } from "./top.ts";
import { type StartOptions, jobId, jobsOf } from "../core/registry.ts";
import type { JobCompanion } from "../core/companion.ts";

const DEFAULT_BUF_BYTES = 16 * MiB;

/** What a caller may add to the wire's arguments. */
export type JobStartOptions = Pick<StartOptions, "signal" | "numbered" | "companion">;

/** Everything that makes one mirror, checked as far as arguments go. */
export interface MirrorPlan {
  /** Cancels the job when it aborts. */
  signal?: AbortSignal | undefined;
  companion?: JobCompanion | undefined;
  id: string;
  type: "mirror" | "commit";
  source: BlockNode;
  target: BlockNode;
  base: BlockNode | undefined;
  syncNone: boolean;
  syncBitmap?: SyncBitmap | undefined;
  zeroTarget: boolean;
  backingMode: BackingMode;
  replaces: string | undefined;
  speed: number;
  granularity: number;
  bufBytes: number;
  onSourceError: OnError;
  onTargetError: OnError;
  unmap: boolean;
  writeBlocking: boolean;
  filterNodeName: string | undefined;
  autoFinalize: boolean | undefined;
  autoDismiss: boolean | undefined;
}

/** blockdev-mirror's arguments, with those of newer QEMU and our own. */
export type MirrorArgs = ArgsOf<"blockdev-mirror"> & BitmapArgs & { "target-is-zero"?: boolean };

/** blockdev-mirror. Throws CommandError in QEMU's words; resolves with the started job. */
export function startMirror(
  graph: BlockGraph,
  args: MirrorArgs,
  options: JobStartOptions = {},
): Promise<MirrorJob> {
  return jobsOf(graph).exclusively(async () => {
    const source = graph.rootNode(args.device);
    const target = graph.lookup(args.target);
    return startChecked(graph, args, {
      ...options,
      source,
      target,
      backingMode: "leave",
      unmap: true,
      zeroTarget: args.sync === "full" && !args["target-is-zero"],
    });
  });
}

type CommonArgs = Omit<MirrorArgs, "target"> & { unmap?: boolean };

/** The part that blockdev-mirror and drive-mirror share. */
export async function startChecked(
  graph: BlockGraph,
  args: CommonArgs,
  given: JobStartOptions & {
    source: BlockNode;
    target: BlockNode;
    backingMode: BackingMode;
    unmap: boolean;
    zeroTarget: boolean;
  },
): Promise<MirrorJob> {
  const { source, target } = given;
  const granularity = checkGranularity(args.granularity ?? 0);
  source.checkBlocked("mirror-source");
  target.checkBlocked("mirror-target");
  const sync = args.sync === "top" && !backingChainNext(source) ? "full" : args.sync;
  const replaces = args.replaces ?? implicitReplaces(source);
  if (args.replaces !== undefined) checkReplaces(graph, source, args.replaces);
  const syncBitmap = chooseSyncBitmap(source, args);
  const onSourceError = args["on-source-error"] ?? "report";
  checkErrorPolicy({
    strict: graph.strictErrorPolicy,
    jobType: "mirror",
    policy: onSourceError,
    argument: "on-source-error",
    device: devicePolicyOf(source),
  });
  return startMirrorJob(graph, {
    id: jobId(graph, source, { id: args["job-id"], type: "mirror", numbered: given.numbered }),
    type: "mirror",
    source,
    target,
    base: sync === "top" ? backingChainNext(source) : undefined,
    syncNone: sync === "none",
    syncBitmap,
    zeroTarget: given.zeroTarget,
    backingMode: given.backingMode,
    replaces,
    speed: args.speed ?? 0,
    granularity,
    bufBytes: args["buf-size"] ?? 0,
    onSourceError,
    onTargetError: args["on-target-error"] ?? "report",
    unmap: given.unmap,
    writeBlocking: args["copy-mode"] === "write-blocking",
    filterNodeName: args["filter-node-name"],
    autoFinalize: args["auto-finalize"],
    autoDismiss: args["auto-dismiss"],
    signal: given.signal,
    companion: given.companion,
  });
}

function checkGranularity(granularity: number): number {
  if (granularity === 0) return 0;
  if (granularity < limits.minGranularity || granularity > limits.maxGranularity) {
    throw new CommandError("Parameter 'granularity' expects a value in range [512B, 64MB]");
  }
  if (!isPowerOfTwo(granularity)) throw new CommandError("Parameter 'granularity' expects a power of 2");
  return granularity;
}

/** Filters that the layer put above the source itself stay on top. */
function implicitReplaces(source: BlockNode): string | undefined {
  const unfiltered = skipImplicitFilters(source);
  return unfiltered === source ? undefined : unfiltered.name;
}

function checkReplaces(graph: BlockGraph, source: BlockNode, name: string): void {
  const node = graph.findNode(name);
  if (!node) throw new CommandError(`Failed to find node with node-name='${name}'`, { code: "ENOENT" });
  node.checkBlocked("replace");
  if (!mayReplace(source, node)) {
    throw new CommandError(
      `Cannot replace '${name}' by a node mirrored from '${source.name}', because it cannot be guaranteed that doing ` +
        "so would not lead to an abrupt change of visible data",
    );
  }
  if (node.length !== source.length) {
    throw new CommandError("cannot replace image with a mirror image of different size");
  }
}

/** Checks what is left, inserts the filter, makes the job and starts it. Nothing stays behind on failure. */
export function startMirrorJob(graph: BlockGraph, plan: MirrorPlan): Promise<MirrorJob> {
  return startJob({
    take: async (leases) => {
      if (plan.syncBitmap) leases.add(useSyncBitmap(plan.syncBitmap));
      const writable = leases.add(plan.type === "commit" ? await graph.writable(plan.target) : new Lease());
      return { filter: leases.add(await insertFilter(graph, plan)), writable };
    },
    make: (taken) => createJob(graph, plan, taken),
    hold: (job, { filter }, leases) => holdNodes(job, { plan, filter: filter.node, leases }),
    speed: plan.speed,
  });
}

async function insertFilter(graph: BlockGraph, plan: MirrorPlan): Promise<FilterLease> {
  if (plan.bufBytes < 0) throw new CommandError("Invalid parameter 'buf-size'");
  if (skipFilters(plan.source) === skipFilters(plan.target))
    throw new CommandError("Can't mirror node into itself");
  const spec = {
    driver: "mirror_top",
    backing: plan.source.name,
    ...(plan.filterNodeName === undefined ? {} : { "node-name": plan.filterNodeName }),
  };
  jobsOf(graph).checkId(plan.id);
  return graph.insertFilter(spec, plan.source, { implicit: plan.filterNodeName === undefined });
}

async function createJob(
  graph: BlockGraph,
  plan: MirrorPlan,
  taken: { filter: FilterLease; writable: Lease },
): Promise<MirrorJob> {
  const { filter, writable } = taken;
  const top = filter.driver(MirrorTop);
  top.isCommit = plan.type === "commit";
  // Its edge shares more from now on.
  if (top.isCommit) await refresh([filter.node]);
  const { owner, setJob } = targetOwner();
  const target = await graph.root(plan.target, { parent: owner, ...targetPermissions(plan) });
  try {
    const job = new MirrorJob({
      ...plan,
      ...mirrorDefaults(plan),
      graph,
      registry: jobsOf(graph),
      top,
      filter,
      writable,
      target,
      activeCommit: plan.type === "commit",
    });
    setJob(job);
    return job;
  } catch (error) {
    return failed(error, () => target.end());
  }
}

function mirrorDefaults(plan: MirrorPlan): { granularity: number; bufBytes: number } {
  const wished = plan.syncBitmap?.bitmap.granularity ?? (plan.granularity || defaultGranularity(plan.target));
  // A cluster that is written in part would take the rest from the target's own backing file, which may be opened only later.
  const { backing, driver } = skipFilters(plan.target);
  const isOverlay = backing !== undefined || Boolean(driver.headerBacking?.filename());
  const cluster = isOverlay ? (plan.target.driver.getInfo?.()?.clusterSize ?? 0) : 0;
  const bufBytes = plan.bufBytes || (plan.companion?.underWayBytes ?? DEFAULT_BUF_BYTES);
  return { granularity: Math.max(wished, cluster), bufBytes };
}

/** The owner of the edge that the job writes through: it is not paused by drains of the target, the job itself is. */
function targetOwner(): { owner: ChildParent; setJob: (job: MirrorJob) => void } {
  let job: MirrorJob | undefined;
  const owner: ChildParent = {
    ...unnamedDevice,
    drainedBusy: () => job !== undefined && job.copiesInFlight > 0,
    stayAtNode: true,
  };
  return {
    owner,
    setJob: (made) => {
      job = made;
    },
  };
}

function targetPermissions(plan: MirrorPlan): Permissions {
  // What was copied is looked at for a checkpoint.
  let perm: number = plan.companion ? Perm.write | Perm.consistentRead : Perm.write;
  let shared: number = Perm.writeUnchanged;
  if (chainContains(plan.source, plan.target)) {
    if (plan.source.length > plan.target.length) perm |= Perm.resize;
    shared |= Perm.consistentRead | Perm.write;
  } else if (chainContains(plan.source, skipFilters(plan.target))) {
    shared |= Perm.consistentRead | Perm.write;
  }
  return { perm, shared };
}

/** The job's edges, which also block other operations; below an active commit the whole chain is frozen. */
async function holdNodes(
  job: MirrorJob,
  { plan, filter, leases }: { plan: MirrorPlan; filter: BlockNode; leases: Leases },
): Promise<void> {
  const readers = Perm.consistentRead | Perm.writeUnchanged | Perm.write;
  await job.addNode(filter, "main node", { perm: Perm.consistentRead, shared: readers });
  await job.addNode(plan.source, "source", { perm: 0, shared: readers });
  await job.addNode(plan.target, "target", { perm: 0, shared: Perm.all });
  if (!chainContains(plan.source, plan.target)) return;
  const below = skipFilters(plan.target);
  let shared: number = Perm.writeUnchanged | Perm.write;
  for (let node = filterOrCow(plan.source); node && node !== plan.target; node = filterOrCow(node)) {
    if (node === below) shared |= Perm.consistentRead;
    await job.addNode(node, "intermediate node", { perm: 0, shared });
  }
  job.frozen = leases.add(freezeChain(filter, plan.target));
}
