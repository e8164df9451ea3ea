/**
 * resumeJob(): goes on with the work of a checkpoint, in another process than that which began it.
 */
import { closing, failed } from "../base/lease.ts";
import { deferred } from "../base/signals.ts";
import { CommandError, messageOf } from "../base/errors.ts";
import type { Gate } from "../block/model/gate.ts";
import type { Engine } from "../machine/engine.ts";
import { loadCheckpoints } from "./checkpoint/index.ts";
import type { CheckpointFile, CheckpointRef } from "./checkpoint/file.ts";
import type { CheckpointState } from "./checkpoint/state.ts";
import { BlockJob } from "../job/core/block-job.ts";
import { convert } from "./convert.ts";
import { backup, commit, type JobOptions, jobOptions, mirror, stream } from "./jobs.ts";
import { asRef, imageInChain } from "./job-checkpoint.ts";
import type { InEngine, Node } from "./node.ts";
import { openNodeIn } from "./open.ts";
import { optionsOf } from "./options.ts";
import type { OpenSpec } from "./specs.ts";

/** Options of resumeJob(). */
export interface ResumeJobOptions extends Omit<JobOptions, "checkpoint"> {
  /** The disk that is read (of a stream or commit: the top of its chain); default: opened as it was, and closed at the end. */
  source?: Node | undefined;
  /** The disk that is written; default: opened as it was, and closed at the end. */
  target?: Node | undefined;
  /** Asked for the files that images name, where disks are opened. Default: the engine's. */
  gate?: Gate | undefined;
}

/** A conversion that goes on, which has no more than an end. */
export interface ResumedConversion {
  readonly type: "convert";
  /** Resolves when the disk is copied; rejects with what convert() throws. */
  readonly done: Promise<void>;
}

/** Work that goes on: what the call that began it would have answered. */
export type ResumedJob = BlockJob | ResumedConversion;

/** Throws CommandError for what are no options of resumeJob(). */
const checkOptions = optionsOf<ResumeJobOptions & InEngine>({
  ...(({ checkpoint: _checkpoint, ...rest }) => rest)(jobOptions),
  engine: "Engine",
  source: "Node",
  target: "Node",
  gate: "Function",
});

/** See Library. */
export async function resumeJobIn(
  engine: Engine,
  ref: CheckpointRef,
  options: ResumeJobOptions & InEngine = {},
): Promise<ResumedJob> {
  checkOptions(options);
  const { CheckpointFile: File } = await loadCheckpoints();
  const file = await File.open(engine, ref);
  try {
    const { found } = file;
    if (!found || found.disks.length === 0)
      throw new CommandError(`the checkpoint '${file.name}' was not begun`, { code: "ENOENT" });
    return await goOn(engine, { file, found, options });
  } catch (error) {
    return failed(error, () => file.close());
  }
}

interface Going {
  file: CheckpointFile;
  found: CheckpointState;
  options: ResumeJobOptions & InEngine;
}

async function goOn(engine: Engine, { file, found, options }: Going): Promise<ResumedJob> {
  const { engine: _engine, source, target, gate, ...rest } = options;
  const { kind } = found;
  const hasTarget = kind === "mirror" || kind === "backup" || kind === "convert";
  const opened: Node[] = [];
  const closeAll = (): Promise<void> =>
    closing(() => Promise.resolve(), ...opened.toReversed().map((node) => () => node.close()));
  const open = async (which: 0 | 1, given: Node | undefined, readOnly: boolean): Promise<Node> => {
    if (given) return given;
    const spec = { ...found.disks[which], "read-only": readOnly, ...(readOnly ? {} : { discard: "unmap" }) };
    const node = await openNodeIn(engine, spec as unknown as OpenSpec, gate ? { gate } : {}).catch(
      (error: unknown) => {
        throw new CommandError(`the ${which ? "target" : "source"} can't be opened: ${messageOf(error)}`, {
          cause: error,
        });
      },
    );
    opened.push(node);
    return node;
  };
  try {
    const from = await open(0, source, hasTarget);
    const to = hasTarget ? await open(1, target, false) : from;
    const job = await begin({ from, to, file, found, rest });
    if (opened.length === 0) return job;
    if (!(job instanceof BlockJob)) return { ...job, done: closing(() => job.done, closeAll) };
    // The job holds what it needs of them, and has flushed what it wrote.
    job.ended.then(closeAll, closeAll).catch(() => undefined);
    return job;
  } catch (error) {
    return failed(error, closeAll);
  }
}

interface Begun {
  from: Node;
  to: Node;
  file: CheckpointFile;
  found: CheckpointState;
  rest: Omit<JobOptions, "checkpoint">;
}

/** The call that began it, once more. */
async function begin({ from, to, file, found, rest }: Begun): Promise<ResumedJob> {
  const { kind, work } = found;
  const more: object = { ...work, ...rest };
  const checkpoint = asRef(file);
  switch (kind) {
    case "mirror":
      return mirror(from, to, { ...more, checkpoint });
    case "backup":
      return backup(from, to, { ...more, checkpoint });
    case "commit":
      return commit(from, { ...more, checkpoint });
    case "stream": {
      const { bottom, ...others } = work;
      const lowest = typeof bottom === "string" ? imageInChain(from, { filename: bottom }).name : undefined;
      return stream(from, { ...others, ...rest, ...(lowest ? { bottom: lowest } : {}), checkpoint });
    }
    default:
      return goOnConverting({ from, to, file, found, rest });
  }
}

/** Resolves when it has begun: what is refused is refused before. */
async function goOnConverting({ from, to, file, found, rest }: Begun): Promise<ResumedConversion> {
  const { offset = 0, length = 0, ...others } = found.work;
  const { signal, speedBytesPerSecond = 0 } = rest;
  const begun = deferred<void>();
  const done = convert(from, to, {
    ...others,
    offset: Number(offset),
    ...(length === 0 ? {} : { length: Number(length) }),
    ...(signal ? { signal } : {}),
    speedBytesPerSecond,
    onProgress: () => begun.resolve(),
    checkpoint: asRef(file),
  });
  await Promise.race([begun.promise, done]);
  return { type: "convert", done };
}
