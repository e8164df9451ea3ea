/**
 * Committing an overlay as a whole: the job, its completion, and then the emptying of what is no longer needed.
 * Source: behaviour of qemu-img commit 7.2.
 *
 * Invariant: nothing of the overlay is dropped before all that was committed is durable in the image below, so a crash at any
 * time leaves a chain that shows what it showed before.
 */
import { closing } from "../base/lease.ts";
import { BlockError, CommandError } from "../base/errors.ts";
import { backingChainNext, skipFilters, skipImplicitFilters } from "../block/model/chain.ts";
import { flush } from "../block/io/request-path.ts";
import { imageFilename } from "../block/model/filename.ts";
import type { BlockNode } from "../block/model/node.ts";
import type { BlockJob } from "../job/core/block-job.ts";
import type { OnError } from "../job/core/error-policy.ts";
import { imagesByName } from "../job/core/image-names.ts";
import { asRef, holding, openCheckpoint } from "./job-checkpoint.ts";
import { commit, type JobOptions, jobOptions, whenReady } from "./jobs.ts";
import type { Node } from "./node.ts";
import { checkNodes, optionsOf } from "./options.ts";
import { emptyImage } from "./overlay.ts";

/** Options of commitOverlay(). */
export interface CommitOverlayOptions extends JobOptions {
  /** The image of the chain to commit into, by file name; default: the overlay's backing file. Implies `keep`. */
  base?: string | undefined;
  /** The overlay is not emptied. */
  keep?: boolean | undefined;
  onError?: OnError | undefined;
  /** Sees to the job's end, completion included; must reject unless it succeeded. Default: waits for it. */
  follow?: ((job: BlockJob) => Promise<void>) | undefined;
}

const checkOptions = optionsOf<CommitOverlayOptions>({
  ...jobOptions,
  base: "str",
  keep: "bool",
  onError: "BlockdevOnError",
  follow: "Function",
});

/**
 * Commits the disk's own image into one below, which grows where it is shorter, and empties it; both are durable when it
 * resolves, and `node` then shows the image below. With `base`, images between it and the overlay are of no more use.
 * Throws CommandError where there is no such image, ENOTSUP for formats that can't be emptied, and what the job fails with:
 * then the overlay is as it was.
 */
export async function commitOverlay(node: Node, options: CommitOverlayOptions = {}): Promise<void> {
  checkOptions(options);
  checkNodes({ node });
  const { graph } = node.engine;
  const { base, keep = base !== undefined, follow = completed, checkpoint, ...rest } = options;
  const image = skipFilters(skipImplicitFilters(node.blockNode));
  const below = await findBase(image, base);
  if (!keep && !image.driver.makeEmpty) throw new BlockError({ code: "ENOTSUP", op: "make-empty" });
  const kept = checkpoint === undefined ? undefined : await openCheckpoint(node.engine, checkpoint);
  graph.reference(image);
  const run = async (): Promise<void> => {
    await follow(await commit(node, { ...rest, baseNode: below.name, checkpoint: kept && asRef(kept) }));
    await node.flush();
    if (keep) return;
    await emptyImage(image);
    await flush(image);
  };
  await closing(
    () => (kept ? holding(kept, run) : run()),
    () => graph.release(image),
  );
}

async function findBase(image: BlockNode, base: string | undefined): Promise<BlockNode> {
  const images = await imagesByName(image, [base]);
  const found = base === undefined ? backingChainNext(image) : images(image, base);
  if (found) return found;
  throw new CommandError(
    base === undefined
      ? "Image does not have a backing file"
      : `Did not find '${base}' in the backing chain of '${imageFilename(image)}'`,
  );
}

async function completed(job: BlockJob): Promise<void> {
  await whenReady(job);
  await job.complete();
  await job.done;
}
