/**
 * The stream job: copies what a node takes from its backing chain into the node itself, then drops the images between.
 *
 * Invariants: the backing link changes only after all data and metadata that replace it are durable; an error that was
 * ignored keeps the link and fails the job at its end. Every error is reported as a read. Source: behaviour of QEMU
 * 7.2's block-stream; the order of flush and header is ours (QEMU's loses data when it is killed).
 */
import { AssertionError, assert } from "../../base/assert.ts";
import { BlockError, CommandError, messageOf } from "../../base/errors.ts";
import { chainContains, filterOrCow, freezeChain, layers, skipFilters } from "../../block/model/chain.ts";
import { maxChunkBytes } from "../../block/copy/chunk-size.ts";
import type { Child, BlockNode } from "../../block/model/node.ts";
import { drained } from "../../block/model/drain.ts";
import { Req, Role } from "../../block/model/contract.ts";
import { nodeFilename } from "../../block/model/filename.ts";
import type { Lease } from "../../base/lease.ts";
import type { FilterLease } from "../../block/graph/edges.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { Perm } from "../../block/model/permissions.ts";
import { isAllocated, isAllocatedAbove } from "../../block/io/status.ts";
import type { ArgsOf } from "../../wire/qapi/index.ts";
import type { BlockJobOptions } from "../core/block-job.ts";
import { ChunkJob, type ChunkLook, type ChunkVerdict } from "../core/chunk-copy.ts";
import { devicePolicyOf } from "../core/device-policy.ts";
import { type OnError, checkErrorPolicy } from "../core/error-policy.ts";
import { jobsOf, type StartOptions, jobOptions, lookupNode } from "../core/registry.ts";
import { startJob } from "../start.ts";
import { type ImageLookup, imagesByName } from "../core/image-names.ts";

/** Arguments of block-stream. */
export type BlockStreamArguments = ArgsOf<"block-stream">;

/** Which images are streamed. */
interface StreamRange {
  top: BlockNode;
  /** The lowest format node whose data is copied; its backing file is the new backing file. */
  baseOverlay: BlockNode;
  /** The node right above the new backing file (baseOverlay, or the lowest filter below it). */
  aboveBase: BlockNode;
}

interface StreamInit extends StreamRange {
  /** The copy-on-read filter above the node. */
  filter: FilterLease;
  /** The node's being writable. */
  writable: Lease;
  onError: OnError;
  /** What the header shall say instead of the base's own name. */
  backingFile: string | undefined;
}

/** Streams one node. */
export class StreamJob extends ChunkJob {
  readonly #init: StreamInit;
  #main: Child | undefined;
  #top: Child | undefined;
  #firstError: unknown;
  /** Prefetching reads name a range by a buffer that nobody touches. */
  readonly #range = new Uint8Array(maxChunkBytes);

  constructor(options: BlockJobOptions, init: StreamInit) {
    super(options);
    this.#init = init;
  }

  /** Takes the nodes. @internal */
  async takeNodes(): Promise<void> {
    const { top, filter, aboveBase } = this.#init;
    const shared = Perm.consistentRead | Perm.writeUnchanged;
    this.#main = await this.addNode(filter.node, "main node", { perm: 0, shared: Perm.all });
    this.#top = await this.addNode(top, "active node", { perm: shared, shared: shared | Perm.write });
    const base = filterOrCow(aboveBase);
    for (let node = filterOrCow(top); node && node !== base; node = filterOrCow(node))
      await this.addNode(node, "intermediate node", { perm: 0, shared });
  }

  /** @internal */
  protected override async run(): Promise<void> {
    const { top, baseOverlay } = this.#init;
    if (skipFilters(top) === baseOverlay) return;
    await this.copyAll(top.length);
    if (this.#firstError !== undefined) throw this.failure(this.#firstError);
  }

  /** @internal */
  protected override get source(): BlockNode {
    return this.#init.top;
  }

  /** @internal */
  protected override get onError(): OnError {
    return this.#init.onError;
  }

  /** @internal */
  protected override get target(): Child {
    assert(this.#top, "nodes are taken before the start");
    return this.#top;
  }

  /** @internal */
  protected override async look(offset: number, bytes: number): Promise<ChunkLook> {
    const own = skipFilters(this.#init.top);
    const here = await isAllocated(own, offset, bytes);
    if (here.allocated || !own.backing) return { bytes: here.bytes, copy: false };
    const options = { base: this.#init.baseOverlay, includeBase: true };
    const below = await isAllocatedAbove(own.backing.node, offset, here.bytes, options);
    return { bytes: below.bytes, copy: below.allocated };
  }

  /** @internal */
  protected override async copy(offset: number, bytes: number): Promise<void> {
    const flags = Req.copyOnRead | Req.prefetch | Req.background;
    await this.#top!.pread(offset, this.#range.subarray(0, bytes), flags);
  }

  /** @internal */
  protected override failed(error: unknown): ChunkVerdict {
    const action = this.errorAction({ policy: this.onError, isRead: true, error });
    if (action === "stop") return "retry";
    this.#firstError ??= error;
    if (action === "report") throw this.failure(this.#firstError);
    return "skip";
  }

  /** @internal */
  protected override async prepare(): Promise<void> {
    const { top, aboveBase } = this.#init;
    await this.#dropFilter();
    // What leaves the chain is closed when the new link is written, and can't undo that.
    const dropped = this.graph.hold(...layers(top));
    try {
      await drained([top, aboveBase], () => this.#changeBacking());
    } finally {
      await this.aside(() => dropped.end());
    }
  }

  async #changeBacking(): Promise<void> {
    const { top, aboveBase, backingFile } = this.#init;
    const own = skipFilters(top);
    if (!own.backing) return;
    const base = filterOrCow(aboveBase) ?? null;
    // Nothing may let go of the old backing file before what replaces it is on stable storage.
    await this.#top!.flush();
    const { headerBacking } = own.driver;
    if (!headerBacking) throw new BlockError({ code: "ENOTSUP", op: "stream" });
    const image = base && skipFilters(base);
    await headerBacking.change(
      image && { filename: backingFile ?? nodeFilename(image), format: image.type.name },
    );
    await this.#top!.flush();
    // Last, so that a header that can't be written leaves the chain as it was; with the new header both show the same.
    try {
      await this.graph.setBacking(own, base, Role.cow);
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      throw new BlockError({ code: "EPERM", op: "stream", cause: error });
    }
  }

  /** Takes the filter out of the graph; whether its last flush fails is no matter of the job. */
  async #dropFilter(): Promise<void> {
    const { filter } = this.#init;
    if (!filter.isHeld) return;
    assert(filter.node.references > 0, "a filter is held until it goes");
    if (this.#main) await this.removeNode(this.#main);
    this.#main = undefined;
    await this.aside(() => filter.end());
  }

  /** @internal */
  protected override async clean(): Promise<void> {
    const { writable } = this.#init;
    await this.#dropFilter();
    if (!writable.isHeld) return;
    await this.removeAllNodes();
    await this.aside(() => writable.end());
  }
}

/** block-stream. Throws CommandError in QEMU's words when it is refused; returns the running job. */
export function startStream(
  graph: BlockGraph,
  args: BlockStreamArguments,
  options: StartOptions = {},
): Promise<StreamJob> {
  return jobsOf(graph).exclusively(() => start(graph, args, options));
}

async function start(
  graph: BlockGraph,
  args: BlockStreamArguments,
  options: StartOptions,
): Promise<StreamJob> {
  const range = await findRange(graph, args);
  const { top } = range;
  const onError = args["on-error"] ?? "report";
  checkErrorPolicy({
    strict: graph.strictErrorPolicy,
    jobType: "stream",
    policy: onError,
    argument: "on-error",
    device: devicePolicyOf(top),
  });
  const created = jobOptions(graph, top, args, { ...options, type: "stream" });
  return startJob({
    async take(leases) {
      // A disk that is made writable has its chain held meanwhile; afterwards the filter holds it.
      if (top.readOnly) await freezeChain(top, range.aboveBase).end();
      const writable = leases.add(await graph.writable(top));
      const filter = leases.add(await insertFilter(graph, range, args["filter-node-name"]));
      return { ...range, filter, writable, onError, backingFile: args["backing-file"] };
    },
    make: (init) => new StreamJob(created, init),
    hold: (job) => job.takeNodes(),
    speed: args.speed,
  });
}

/** Puts the copy-on-read filter above the node. */
async function insertFilter(
  graph: BlockGraph,
  { top, baseOverlay }: StreamRange,
  name: string | undefined,
): Promise<FilterLease> {
  const spec = { driver: "copy-on-read", file: top.name, bottom: baseOverlay.name };
  const named = name === undefined ? spec : { ...spec, "node-name": name };
  try {
    return await graph.insertFilter(named, top, { implicit: name === undefined });
  } catch (error) {
    throw new CommandError(`Could not create node: ${messageOf(error)}`, { cause: error });
  }
}

function checkExclusive(args: BlockStreamArguments): void {
  const given = (["base", "base-node", "bottom"] as const).filter((name) => args[name] !== undefined);
  if (given.length < 2) return;
  const [first, second] =
    given.includes("bottom") && !given.includes("base") ? ["bottom", "base-node"] : given;
  throw new CommandError(`'${first}' and '${second}' cannot be specified at the same time`);
}

async function findRange(graph: BlockGraph, args: BlockStreamArguments): Promise<StreamRange> {
  checkExclusive(args);
  const images = await imagesByName(graph.lookup(args.device), [args.base]);
  // The graph may be another by now; from here on nothing waits.
  const top = graph.lookup(args.device);
  const base = findBase({ graph, args, images }, top);
  const bottom = args.bottom === undefined ? undefined : findBottom(graph, top, args);
  const end = bottom ? filterOrCow(bottom) : base;
  for (const node of layers(top)) {
    if (node === end) break;
    node.checkBlocked("stream");
  }
  if (!base && args["backing-file"] !== undefined)
    throw new CommandError("backing file specified, but streaming the entire chain");
  if (bottom) return { top, baseOverlay: bottom, aboveBase: bottom };
  // Only filters lie between them.
  if (base && skipFilters(base) === skipFilters(top))
    throw new CommandError(`'${base.name}' is not in the backing chain of '${top.name}'`);
  return { top, ...overlayOf(top, base) };
}

interface Wanted {
  graph: BlockGraph;
  args: BlockStreamArguments;
  images: ImageLookup;
}

function findBase({ graph, args, images }: Wanted, top: BlockNode): BlockNode | undefined {
  if (args.base !== undefined) {
    const found = images(top, args.base);
    if (!found) throw new CommandError(`Can't find '${args.base}' in the backing chain`, { code: "ENOENT" });
    return found;
  }
  const name = args["base-node"];
  if (name === undefined) return undefined;
  const base = lookupNode(graph, name);
  if (base === top || !chainContains(top, base))
    throw new CommandError(`Node '${name}' is not a backing image of '${args.device}'`);
  return base;
}

function findBottom(graph: BlockGraph, top: BlockNode, args: BlockStreamArguments): BlockNode {
  const name = args.bottom!;
  const bottom = lookupNode(graph, name);
  if (bottom.isFilter)
    throw new CommandError(`Node '${name}' is a filter, use a non-filter node as 'bottom'`);
  if (!chainContains(top, bottom))
    throw new CommandError(`Node '${name}' is not in a chain starting from '${args.device}'`);
  return bottom;
}

/** The format node over `base` (or the lowest of the chain), and the node right above `base`. */
function overlayOf(
  top: BlockNode,
  base: BlockNode | undefined,
): { baseOverlay: BlockNode; aboveBase: BlockNode } {
  let baseOverlay = skipFilters(top);
  let aboveBase = top;
  for (const node of layers(top)) {
    if (node === base) break;
    aboveBase = node;
    if (!node.isFilter) baseOverlay = node;
  }
  // Filters right above the end of a whole chain stream nothing: the overlay is the lowest format node.
  if (!base) aboveBase = baseOverlay;
  return { baseOverlay, aboveBase };
}
