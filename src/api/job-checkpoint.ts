/**
 * The checkpoints of the library's jobs: begun with the job, or gone on with, and let go where the job can't begin. What keeps them is
 * loaded when it is asked for.
 */
import { closing, failed } from "../base/lease.ts";
import { CommandError } from "../base/errors.ts";
import { layers, skipFilters } from "../block/model/chain.ts";
import { findDirtyBitmap } from "../block/model/dirty-bitmap.ts";
import { imageFilename } from "../block/model/filename.ts";
import type { BlockNode } from "../block/model/node.ts";
import type { Engine } from "../machine/engine.ts";
import { loadCheckpoints } from "./checkpoint/index.ts";
import type { Beginning } from "./checkpoint/begin.ts";
import type { CheckpointFile, CheckpointRef } from "./checkpoint/file.ts";
import type { Keeper } from "./checkpoint/keeper.ts";
import type { CheckpointWork } from "./checkpoint/state.ts";
import type { Node } from "./node.ts";

/** What a job says of its checkpoint. */
type Wish = Omit<Beginning, "engine" | "checkpoint" | "work"> & {
  checkpoint: CheckpointRef | CheckpointFile | undefined;
  work: { readonly [name: string]: string | number | boolean | undefined };
};

/** Has `start` start a job, which keeps a checkpoint if its user wants one. */
export async function withCheckpoint<J>(
  engine: Engine,
  wish: Wish,
  start: (keeper: Keeper | undefined) => Promise<J>,
): Promise<J> {
  const { checkpoint } = wish;
  if (checkpoint === undefined) return start(undefined);
  const { beginCheckpoint } = await loadCheckpoints();
  const work = Object.fromEntries(Object.entries(wish.work).filter(([, value]) => value !== undefined));
  const keeper = await beginCheckpoint({ ...wish, checkpoint, engine, work: work as CheckpointWork });
  try {
    return await start(keeper);
  } catch (error) {
    return failed(error, () => keeper.finish(false));
  }
}

/** Between a source and its target. `isWhole`: the target gets all that the source shows. */
export function betweenDisks(
  source: Node,
  target: Node,
  isWhole: boolean,
): Pick<Wish, "roots" | "shows" | "disks"> {
  const [reads, writes] = [source.blockNode, target.blockNode];
  return {
    roots: { reads: [reads], writes },
    shows: isWhole ? reads : undefined,
    disks: [reads, writes],
  };
}

/** What bitmaps say of a job that goes on: its checkpoint says it, so one that is gone, or inconsistent after a kill, is not missed. */
export function withUsableBitmap<T extends { bitmap?: string; "bitmap-mode"?: unknown; sync: string }>(
  source: Node,
  args: T,
  keeper: Keeper | undefined,
): T {
  if (!keeper?.resume || args.bitmap === undefined) return args;
  const found = findDirtyBitmap(source.blockNode, args.bitmap);
  if (found && !found.inconsistent) return args;
  const { bitmap: _bitmap, "bitmap-mode": _mode, ...rest } = args;
  return { ...rest, sync: "full" } as unknown as T;
}

/** The image of a chain by the name of its file or of its node; the lowest without one. Throws CommandError. */
export function imageInChain(
  node: Node,
  { filename, nodeName }: { filename?: string | undefined; nodeName?: string | undefined },
): BlockNode {
  const chain = [...layers(node.blockNode)];
  if (filename === undefined && nodeName === undefined) return skipFilters(chain.at(-1)!);
  const found = chain.find((layer) =>
    nodeName === undefined ? !layer.isFilter && imageFilename(layer) === filename : layer.name === nodeName,
  );
  if (found) return found;
  throw new CommandError(`Can't find '${nodeName ?? filename}' in the backing chain`, { code: "ENOENT" });
}

/** Opens a checkpoint for work of several steps, which ends it itself. */
export async function openCheckpoint(
  engine: Engine,
  ref: CheckpointRef | CheckpointFile,
): Promise<CheckpointFile> {
  const { CheckpointFile: File } = await loadCheckpoints();
  const file = ref instanceof File ? ref : await File.open(engine, ref, { create: true });
  file.stays = true;
  return file;
}

/** An open checkpoint, for the functions of jobs, which take one in place of its name. */
export function asRef(file: CheckpointFile): CheckpointRef {
  return file as unknown as CheckpointRef;
}

/** Carries out `body` with the checkpoint, which is closed after it, and goes if it was all. */
export async function holding(file: CheckpointFile, body: () => Promise<void>): Promise<void> {
  await closing(
    async () => {
      await body();
      await file.finish();
    },
    () => file.close(),
  );
}
