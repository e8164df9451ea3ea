/**
 * A disk as it is at one moment, for as long as somebody reads it: a copy-before-write filter over the disk keeps what its
 * guest overwrites in a scratch disk, and a node shows the disk as it was (fleecing).
 *
 * Invariants: it fails whoever reads it, and never the guest: when the scratch disk is full or fails, the moment is lost, and
 * the guest's writes go on. Ending the lease takes everything out again, whatever fails.
 */
import { closing, failed, Lease } from "../../base/lease.ts";
import { type BlockError, CommandError, blockError } from "../../base/errors.ts";
import { type Errno, strerror } from "../../base/errno.ts";
import type { ByteRange } from "../../base/ranges.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { ChildRef } from "../../block/model/contract.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { CopyBeforeWrite, copyBeforeWrite } from "../../drivers/filter/copy-before-write.ts";
import { snapshotAccess } from "../../drivers/filter/snapshot-access.ts";

/** The moment, held. */
export class PointInTime extends Lease {
  /** Shows the disk as it was; read-only. */
  readonly node: BlockNode;
  readonly #filter: CopyBeforeWrite;

  constructor(node: BlockNode, filter: CopyBeforeWrite, giveBack: () => Promise<void>) {
    super(giveBack);
    this.node = node;
    this.#filter = filter;
  }

  /** Why the moment is lost, if it is. */
  get lost(): Errno | undefined {
    return this.#filter.snapshotError;
  }

  /** Calls `listener` once the moment is lost. */
  onLost(listener: () => void): void {
    this.#filter.onBroken = listener;
  }

  /** Nobody reads this range any more: it takes no room in the scratch disk. A scratch disk that can't let go keeps it. */
  async forget({ offset, bytes }: ByteRange): Promise<void> {
    await this.#filter.discardSnapshot(offset, bytes).catch(() => undefined);
  }
}

/** The error of whoever reads a moment that is lost. */
export function lostMoment(code: Errno, op: string): BlockError {
  return blockError(code, op, `what the guest overwrote could not be kept: ${strerror(code)}`);
}

/**
 * Fixes the moment: what is written to `source` from now on is kept in `scratch` first. To be called within
 * JobRegistry.exclusively(). Throws CommandError where a job forbids the filter, and for a scratch disk that is too short.
 */
export async function pointInTime(
  graph: BlockGraph,
  source: BlockNode,
  scratch: ChildRef,
): Promise<PointInTime> {
  graph.register(copyBeforeWrite, snapshotAccess);
  const spec = {
    driver: copyBeforeWrite.name,
    file: source.name,
    // What nobody reads any more is to be freed.
    target: typeof scratch === "object" ? { discard: "unmap", ...scratch } : scratch,
    "on-cbw-error": "break-snapshot",
  };
  const filter = await graph.insertFilter(spec, source, { implicit: true });
  const keeper = filter.driver(CopyBeforeWrite);
  if (keeper.target.length < source.length) {
    const words = `The scratch disk of ${keeper.target.length} bytes is shorter than the disk of ${source.length}`;
    return failed(new CommandError(words), () => filter.end());
  }
  const view = { driver: snapshotAccess.name, file: filter.node.name, "read-only": true };
  const node = await graph.open(view).catch((error: unknown) => failed(error, () => filter.end()));
  return new PointInTime(node, keeper, () =>
    closing(
      () => graph.release(node),
      () => filter.end(),
    ),
  );
}
