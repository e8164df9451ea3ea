/**
 * The end of a mirror: the target takes the source's place (or does not), and the filter leaves the graph. It runs once,
 * from prepare or from abort, while the source is still drained. Source: behaviour of QEMU 7.2's mirror_exit_common.
 */
import { AssertionError, assert } from "../../base/assert.ts";
import { closing, type Lease, Leases } from "../../base/lease.ts";
import { BlockError, CommandError, messageOf } from "../../base/errors.ts";
import { refresh } from "../../block/graph/edges.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { mayReplace, skipFilters } from "../../block/model/chain.ts";
import { Role } from "../../block/model/contract.ts";
import type { DirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import { drainedSection } from "../../block/model/drain.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";
import { settleSyncBitmap } from "./by-bitmap.ts";
import type { MirrorInit } from "./init.ts";

const replaceReason = "block device is in use by block-job-complete";

/** The mirror whose end is carried out (job.ts). */
export interface EndingMirror {
  readonly graph: BlockGraph;
  readonly init: MirrorInit;
  readonly source: BlockNode;
  readonly bitmap: DirtyBitmap;
  /** What was written to the target and may be lost there. */
  unsafeAtTarget(): Promise<Bitmap | undefined>;
  /** The target shall take the source's place. */
  readonly shouldComplete: boolean;
  readonly frozen: Lease;
  /** The drained section of the source, and whether there is one. */
  readonly drain: Lease;
  inDrain: boolean;
  removeAllNodes(): Promise<void>;
  aside(step: () => Promise<unknown>): Promise<void>;
}

/** Carries out one mirror's end. */
export class MirrorExit {
  readonly #job: EndingMirror;
  /** What is given back when the graph was changed, newest first. */
  readonly #rest = new Leases();
  /** What ends after the filter has left. */
  readonly #afterFilter = new Leases();
  /** The node that `replaces` names, blocked and held. */
  readonly #replaced = new Leases();
  #done = false;
  #toReplace: BlockNode | undefined;
  /** The target has taken over: the job has done what it was for. */
  #switched = false;
  /** The job has not failed: it was cancelled softly, or the target has taken over. */
  #succeeded = false;

  constructor(job: EndingMirror) {
    this.#job = job;
  }

  /** complete() was asked for: the node named by `replaces` is kept from everyone else. */
  blockReplaced(): void {
    const { replaces } = this.#job.init;
    if (replaces === undefined || this.#toReplace) return;
    const { graph } = this.#job;
    const node = graph.findNode(replaces);
    if (!node) throw new CommandError(`Node name '${replaces}' not found`, { code: "ENOENT" });
    node.block(replaceReason);
    this.#toReplace = node;
    this.#replaced.add(graph.hold(node));
    this.#replaced.defer(() => node.unblock(replaceReason));
  }

  /** Frees what the job holds when it never started; its filter and the rest go by the leases of the start. */
  async abandon(): Promise<void> {
    if (this.#done) return;
    this.#done = true;
    const { init, bitmap, frozen } = this.#job;
    await frozen.end();
    bitmap.release();
    await init.target.end();
  }

  /**
   * Changes the graph. Throws EPERM when the pivot is refused; the filter is gone all the same. When the target has taken over,
   * nothing of what is left behind can fail the job any more; a target that does not must be whole when it is closed.
   */
  async run(aborting: boolean): Promise<void> {
    if (this.#done) return;
    this.#done = true;
    const { init, graph, source } = this.#job;
    const [oldSource, target] = [graph.hold(source), graph.hold(init.target.edge.node)];
    await closing(
      () => this.#change(aborting),
      () => this.#job.aside(() => this.#rest.end()),
      () => this.#job.aside(() => oldSource.end()),
      () => this.#job.aside(() => init.writable.end()),
      () => (this.#switched ? this.#job.aside(() => target.end()) : target.end()),
    );
  }

  async #change(aborting: boolean): Promise<void> {
    const { init, bitmap, frozen } = this.#job;
    const { filter, top } = init;
    this.#collectRest();
    await frozen.end();
    const { mode } = init.syncBitmap ?? {};
    // Before the edge to the target goes: a mirror that succeeds has flushed it.
    const unsafe = aborting && mode === "always" ? await this.#job.unsafeAtTarget() : undefined;
    this.#rest.defer(() => {
      const end = { succeeded: this.#succeeded, different: bitmap.bitmap, unsafe };
      if (init.syncBitmap) settleSyncBitmap(init.syncBitmap, end);
      bitmap.release();
    });
    await init.target.end();
    const section = await drainedSection(filter.node);
    // The section outlives the filter's place in the graph.
    this.#afterFilter.add(section);
    top.stopped = true;
    await refresh([filter.node]);
    if (aborting) return;
    await this.#attemptPivot();
    this.#succeeded = true;
  }

  #collectRest(): void {
    const job = this.#job;
    const { filter, top } = job.init;
    this.#rest.defer(() => {
      job.inDrain = false;
    });
    this.#rest.add(job.drain);
    this.#rest.add(this.#afterFilter);
    this.#rest.add(filter);
    this.#rest.defer(() => {
      top.sink = undefined;
    });
    this.#rest.defer(() => job.removeAllNodes());
    this.#rest.add(this.#replaced);
  }

  async #attemptPivot(): Promise<void> {
    const { source, init } = this.#job;
    try {
      await this.#pivot(source, init.target.edge.node);
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      // The job's own error says less.
      this.#job.graph.onTrouble?.(messageOf(error));
      throw new BlockError({ code: "EPERM", op: "mirror", cause: error });
    }
  }

  async #pivot(source: BlockNode, target: BlockNode): Promise<void> {
    const { init, graph, shouldComplete } = this.#job;
    await this.#setBacking(source, target);
    if (!shouldComplete) return;
    const replaced = this.#toReplace ?? source;
    const alike = await graph.switched(target, replaced.readOnly);
    const replace = async (): Promise<void> => {
      assert(source.quiesceCounter > 0, "the target takes over from a source that may still be written");
      if (!mayReplace(source, replaced)) throw new CommandError(changedMessage(replaced, target));
      await graph.replace(replaced, target);
      this.#switched = true;
      alike.keep();
      init.writable.keep();
    };
    await closing(replace, () => alike.end());
  }

  async #setBacking(source: BlockNode, target: BlockNode): Promise<void> {
    const { backingMode, syncNone, base } = this.#job.init;
    const unfiltered = skipFilters(target);
    if (backingMode === "source-chain") {
      const backing = syncNone ? source : (base ?? null);
      if (unfiltered.backing?.node !== backing)
        await this.#job.graph.setBacking(unfiltered, backing, Role.cow);
    } else if (backingMode === "open" && !unfiltered.backing) {
      await this.#job.graph.openBackingOf(unfiltered);
    }
  }
}

function changedMessage(replaced: BlockNode, target: BlockNode): string {
  return (
    `Can no longer replace '${replaced.name}' by '${target.name}', because it can no longer be ` +
    "guaranteed that doing so would not lead to an abrupt change of visible data"
  );
}
