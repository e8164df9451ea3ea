/**
 * The end of a mirror: the target takes the source's place (or does not), and the filter leaves the graph. It runs once,
 * from prepare or from abort, while the source is still drained. Source: behaviour of QEMU 7.2's mirror_exit_common.
 */
import { BlockError, CommandError } from "../../base/errors.ts";
import { skipFilters } from "../../block/model/chain.ts";
import { drainedBegin, drainedEnd } from "../../block/model/drain.ts";
import { Role } from "../../block/model/contract.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { refresh } from "../../block/graph/edges.ts";
import type { MirrorJob } from "./job.ts";

const replaceReason = "block device is in use by block-job-complete";

/** Carries out one mirror's end. */
export class MirrorExit {
  readonly #job: MirrorJob;
  #done = false;
  #toReplace: BlockNode | undefined;

  constructor(job: MirrorJob) {
    this.#job = job;
  }

  /** complete() was asked for: the node named by `replaces` is kept from everyone else. */
  blockReplaced(): void {
    const { replaces } = this.#job.init;
    if (replaces === undefined || this.#toReplace) return;
    const node = this.#job.graph.findNode(replaces);
    if (!node) throw new CommandError(`Node name '${replaces}' not found`);
    node.block(replaceReason);
    this.#job.graph.reference(node);
    this.#toReplace = node;
  }

  /** Frees what the job holds when it never started. */
  async abandon(): Promise<void> {
    if (this.#done) return;
    this.#done = true;
    const { init, bitmap, graph } = this.#job;
    init.unfreeze?.();
    bitmap.release();
    await graph.detach(init.target);
  }

  /** Changes the graph. Throws EPERM when the pivot is refused; the filter is gone all the same. */
  async run(aborting: boolean): Promise<void> {
    if (this.#done) return;
    this.#done = true;
    const { graph, init, source } = this.#job;
    const target = init.target.node;
    const filter = init.top.node;
    const held = [source, target];
    for (const node of [...held, filter]) graph.reference(node);
    init.unfreeze?.();
    this.#job.bitmap.release();
    await graph.detach(init.target);
    await drainedBegin(filter);
    init.top.stopped = true;
    await refresh([filter]);
    let refused: unknown;
    try {
      if (!aborting) await this.#pivot(source, target);
    } catch (error) {
      refused = error;
    }
    await this.#letReplacedGo();
    await this.#job.removeAllNodes();
    init.top.sink = undefined;
    await graph.removeFilter(filter);
    drainedEnd(source);
    drainedEnd(filter);
    this.#job.inDrain = false;
    for (const node of held) await graph.release(node);
    if (refused) throw new BlockError({ code: "EPERM", op: "mirror", cause: refused });
  }

  async #pivot(source: BlockNode, target: BlockNode): Promise<void> {
    const { init, graph, shouldComplete } = this.#job;
    await this.#setBacking(source, target);
    if (!shouldComplete) return;
    const replaced = this.#toReplace ?? source;
    if (replaced.readOnly !== target.readOnly) await graph.setReadOnly(target, replaced.readOnly);
    if (!presentsSame(replaced, source)) {
      throw new CommandError(
        `Can no longer replace '${init.top.source.name}' by '${target.name}', because it can no longer be ` +
          "guaranteed that doing so would not lead to an abrupt change of visible data",
      );
    }
    await graph.replace(replaced, target);
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

  async #letReplacedGo(): Promise<void> {
    const node = this.#toReplace;
    this.#toReplace = undefined;
    if (!node) return;
    node.unblock(replaceReason);
    await this.#job.graph.release(node);
  }
}

/** Whether one node presents what the other holds: they are the same, or filters lie between them. */
function presentsSame(node: BlockNode, source: BlockNode): boolean {
  return skipFilters(node) === skipFilters(source);
}
