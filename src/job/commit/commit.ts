/**
 * The commit job for images that nobody writes: copies what lies above the base into the base, then links the overlays
 * of the top image to the base. (A commit of the active image is a mirror into its own chain.)
 *
 * Invariants: the base is durable before any overlay's header names it; errors are told apart by side but share one
 * policy; a chunk that failed is tried again under every policy but report. Source: behaviour of QEMU 7.2's
 * block-commit.
 */
import { assert } from "../../base/assert.ts";
import { BlockError, CommandError } from "../../base/errors.ts";
import { freezeChain, layers, skipFilters } from "../../block/model/chain.ts";
import type { Child, BlockNode } from "../../block/model/node.ts";
import { drained } from "../../block/model/drain.ts";
import { Role } from "../../block/model/contract.ts";
import { nodeFilename } from "../../block/model/filename.ts";
import { Lease, type Leases } from "../../base/lease.ts";
import type { FilterLease } from "../../block/graph/edges.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { Perm } from "../../block/model/permissions.ts";
import { maxChunkBytes } from "../../block/copy/chunk-size.ts";
import { CopyError, RangeCopier } from "../../block/copy/range-copy.ts";
import { isAllocatedAbove } from "../../block/io/status.ts";
import { startActiveCommit } from "./active-commit.ts";
import type { BlockJob, BlockJobOptions } from "../core/block-job.ts";
import { ChunkJob, type ChunkLook, type ChunkVerdict } from "../core/chunk-copy.ts";
import { type BlockCommitArguments, type CommitPlan, planCommit } from "./plan.ts";
import { commitTop } from "./top.ts";
import { devicePolicyOf } from "../core/device-policy.ts";
import { type OnError, checkErrorPolicy } from "../core/error-policy.ts";
import { type StartOptions, jobId, jobOptions, jobsOf } from "../core/registry.ts";
import { startJob } from "../start.ts";

/** Commits one intermediate image (and those between it and the base). */
export class CommitJob extends ChunkJob {
  readonly #top: BlockNode;
  readonly #base: BlockNode;
  /** The lowest image above the base. */
  readonly #baseOverlay: BlockNode;
  /** @internal */
  protected override readonly onError: OnError;
  readonly #backingFile: string | undefined;
  /** The base's being writable. */
  #writable = new Lease();
  #filter: FilterLease | undefined;
  #frozen = new Lease();
  #source: Child | undefined;
  #target: Child | undefined;
  #copier: RangeCopier | undefined;

  constructor(options: BlockJobOptions, plan: CommitPlan) {
    super(options);
    this.#top = plan.top;
    this.#base = plan.base;
    this.#baseOverlay = overlayAbove(plan.top, plan.base);
    this.onError = plan.onError;
    this.#backingFile = plan.backingFile;
  }

  /** Makes the base writable, inserts the filter and takes the nodes. @internal */
  async takeNodes(plan: CommitPlan, leases: Leases): Promise<void> {
    const top = this.#top;
    const base = this.#base;
    await this.addNode(plan.device, "main node", { perm: 0, shared: Perm.all });
    this.#writable = leases.add(await this.graph.writable(base));
    const filter = leases.add(await this.#insertFilter(plan.filterNodeName));
    this.#filter = filter;
    await this.#takeIntermediates();
    this.#frozen = leases.add(freezeChain(filter.node, base));
    await this.addNode(base, "base", { perm: 0, shared: Perm.all });
    let perm = Perm.consistentRead | Perm.write;
    if (base.length < top.length) perm |= Perm.resize;
    const shared = Perm.consistentRead | Perm.writeUnchanged;
    this.#target = await this.graph.attach(this, base, { name: "base", perm, shared });
    this.#source = await this.graph.attach(this, top, { name: "top", perm: 0, shared: Perm.all });
    const { arena, kernels } = this.graph;
    const edges = { source: this.#source, target: this.#target };
    this.#copier = new RangeCopier({ ...edges, arena, kernels, maxTransfer: maxChunkBytes });
  }

  #insertFilter(name: string | undefined): Promise<FilterLease> {
    this.graph.register(commitTop);
    const spec = { driver: commitTop.name, backing: this.#top.name };
    const named = name === undefined ? spec : { ...spec, "node-name": name };
    return this.graph.insertFilter(named, this.#top, { implicit: name === undefined });
  }

  /** The nodes that will leave the chain. Their content is not consistent on its own any more, filters over the base excepted. */
  async #takeIntermediates(): Promise<void> {
    let shared = Perm.writeUnchanged | Perm.write;
    for (const node of layers(this.#top)) {
      if (node === this.#base) break;
      if (skipFilters(node) === skipFilters(this.#base)) shared |= Perm.consistentRead;
      await this.addNode(node, "intermediate node", { perm: 0, shared });
    }
  }

  /** @internal */
  protected override async run(): Promise<void> {
    const bytes = this.#top.length;
    this.counter.setRemaining(bytes);
    if (this.#base.length < bytes)
      await this.#target!.truncate(bytes, { exact: false, preallocation: "off" });
    await this.copyAll(bytes);
  }

  /** @internal */
  protected override get source(): BlockNode {
    return this.#top;
  }

  /** @internal */
  protected override get target(): Child {
    return this.#target!;
  }

  /** @internal */
  protected override async look(offset: number, bytes: number): Promise<ChunkLook> {
    const options = { base: this.#baseOverlay, includeBase: true };
    const found = await isAllocatedAbove(this.#top, offset, bytes, options);
    return { bytes: found.bytes, copy: found.allocated };
  }

  /** @internal */
  protected override async copy(offset: number, bytes: number): Promise<void> {
    await this.#copier!.copy(offset, bytes);
  }

  /** @internal */
  protected override failed(error: unknown): ChunkVerdict {
    const isRead = !(error instanceof CopyError && error.operation === "write");
    const action = this.errorAction({ policy: this.onError, isRead, error });
    if (action === "report") throw this.failure(error);
    return "retry";
  }

  /** @internal */
  protected override async prepare(): Promise<void> {
    const filter = this.#filter;
    const base = this.#base;
    assert(filter && this.#target, "nodes are taken before the start");
    await this.#frozen.end();
    // An overlay may name the base only once all that was committed is on stable storage.
    await this.#target.flush();
    await this.#letGo();
    // What leaves the chain is closed when the new links are written, and can't undo them.
    const dropped = this.graph.hold(...layers(this.#top));
    try {
      await drained([filter.node, base], () => this.#relinkAll(filter.node));
      await filter.left();
    } finally {
      await this.aside(() => dropped.end());
    }
  }

  /**
   * The base takes the filter's place, in the headers above and then in the graph: a header that can't be written leaves the chain
   * as it was, and one that names the base already shows the same.
   */
  async #relinkAll(filter: BlockNode): Promise<void> {
    const overlays = [...filter.parents].filter((edge) => edge.role & Role.cow);
    for (const { parent } of overlays) if (parent.parentNode) await this.#relink(parent.parentNode);
    await this.graph.replace(filter, this.#base);
  }

  /** Writes the base's name into an overlay's header. */
  async #relink(overlay: BlockNode): Promise<void> {
    const base = this.#base;
    await using _writable = await this.graph.writable(overlay);
    const { headerBacking } = overlay.driver;
    if (!headerBacking) throw new BlockError({ code: "ENOTSUP", op: "commit" });
    const filename = this.#backingFile ?? nodeFilename(base);
    await headerBacking.change({ filename, format: skipFilters(base).type.name });
  }

  /** Gives up the edges that read and write. */
  async #letGo(): Promise<void> {
    const edges = [this.#target, this.#source];
    this.#target = undefined;
    this.#source = undefined;
    for (const edge of edges) if (edge) await this.graph.detach(edge);
  }

  /** Takes the filter out and leaves the chain as it was. @internal */
  protected override async abort(): Promise<void> {
    await this.#frozen.end();
    await this.#letGo();
    await this.removeAllNodes();
    await this.aside(async () => this.#filter?.end());
  }

  /** @internal */
  protected override async clean(): Promise<void> {
    await this.#letGo();
    // The base holds what it shall, whether it can be made read-only again or not.
    await this.aside(() => this.#writable.end());
  }

  /** @internal */
  protected override async release(): Promise<void> {
    await this.#letGo();
    await super.release();
  }
}

/** The lowest image of the chain from `top` that lies above `base`. */
function overlayAbove(top: BlockNode, base: BlockNode): BlockNode {
  let overlay = top;
  for (const node of layers(top)) {
    if (node === base || skipFilters(node) === skipFilters(base)) break;
    if (!node.isFilter) overlay = node;
  }
  return overlay;
}

/** block-commit, of an active image or another. Throws CommandError in QEMU's words; returns the running job. */
export function startCommit(
  graph: BlockGraph,
  args: BlockCommitArguments,
  options: StartOptions = {},
): Promise<BlockJob> {
  return jobsOf(graph).exclusively(() => start(graph, args, options));
}

async function start(
  graph: BlockGraph,
  args: BlockCommitArguments,
  options: StartOptions,
): Promise<BlockJob> {
  const plan = await planCommit(graph, args);
  checkErrorPolicy({
    strict: graph.strictErrorPolicy,
    jobType: "commit",
    policy: plan.onError,
    argument: "on-error",
    device: devicePolicyOf(plan.device),
  });
  if (!plan.active) return startIntermediateCommit(graph, plan, options);
  return startActiveCommit(graph, {
    signal: options.signal,
    companion: options.companion,
    id: jobId(graph, plan.device, { id: args["job-id"], type: "commit", numbered: options.numbered }),
    top: plan.top,
    base: plan.base,
    speed: args.speed ?? 0,
    onError: plan.onError,
    filterNodeName: plan.filterNodeName,
    autoFinalize: args["auto-finalize"],
    autoDismiss: args["auto-dismiss"],
  });
}

/** Starts the job of a plan whose top image is not the active one. Throws CommandError; returns the running job. */
async function startIntermediateCommit(
  graph: BlockGraph,
  plan: CommitPlan,
  options: StartOptions = {},
): Promise<CommitJob> {
  if (skipFilters(plan.top) === skipFilters(plan.base))
    throw new CommandError("Invalid files for merge: top and base are the same");
  const created = jobOptions(graph, plan.device, plan.args, { ...options, type: "commit" });
  return startJob({
    take: () => Promise.resolve(plan),
    make: () => new CommitJob(created, plan),
    hold: (job, _plan, leases) => job.takeNodes(plan, leases),
    speed: plan.args.speed,
  });
}
