/**
 * A disk that is used at once while it is restored: what was not brought over yet is read from where it is restored from, and what is
 * written goes to the target.
 *
 * Invariant: which parts the target has is known in memory, and in `map` where it is given; when the job has ended well, the target alone
 * is the disk.
 */
import { failed } from "../base/lease.ts";
import { CommandError, blockError } from "../base/errors.ts";
import { allocTrack } from "../drivers/filter/alloc-track.ts";
import type { OnError } from "../job/core/error-policy.ts";
import type { StreamJob } from "../job/stream/stream.ts";
import { stream } from "./jobs.ts";
import type { CallOptions, Node } from "./node.ts";
import { openNodeIn } from "./open.ts";
import { callOptions, checkNodes, optionsOf } from "./options.ts";

/** Options of liveRestore(). */
export interface LiveRestoreOptions extends CallOptions {
  /** Default: `stream` and a number. */
  jobId?: string | undefined;
  /** Of the filling, bytes per second; 0 (default): no limit. */
  speedBytesPerSecond?: number | undefined;
  /** What the filling does about an error; default report: the job ends, and the disk can be used on while its source is there. */
  onError?: OnError | undefined;
  /**
   * A raw node, empty at first, that is kept with the target: each flush of the disk notes there what the target has, so that after a
   * kill liveRestore() with the same three goes on. What was not flushed by then is as before it was written.
   */
  map?: Node | undefined;
}

/** A disk that is being restored. */
export interface LiveRestore {
  /** The disk, whole from the first moment on. Close it when nobody uses it any more. */
  readonly node: Node;
  /** Fills the target. When `job.done` resolves, the target holds the disk, durably, and the source may be closed. */
  readonly job: StreamJob;
}

const checkOptions = /* @__PURE__ */ optionsOf<LiveRestoreOptions>({
  ...callOptions,
  jobId: "str",
  speedBytesPerSecond: "Finite",
  onError: "BlockdevOnError",
  map: "Node",
});

/**
 * Begins to restore the disk `from` (a backup, an image on a server) into `target`, whose content does not count, of any format. Both
 * are of one engine. Throws CommandError where their lengths differ, for options that are none, and as stream() does.
 */
export async function liveRestore(
  from: Node,
  target: Node,
  options: LiveRestoreOptions = {},
): Promise<LiveRestore> {
  checkOptions(options);
  const { map, ...rest } = options;
  checkNodes({ from, target, ...(map ? { map } : {}) });
  const { engine } = target;
  if (from.engine !== engine || (map && map.engine !== engine))
    throw blockError("EINVAL", "restore", "source and target are open in different engines");
  if (from.length !== target.length) throw new CommandError("Source and target image have different sizes");
  engine.graph.register(allocTrack);
  const spec = {
    driver: "alloc-track",
    file: target.name,
    backing: from.name,
    discard: "unmap",
    ...(map ? { map: map.name } : {}),
  } as const;
  const node = await openNodeIn(engine, spec);
  try {
    return { node, job: await stream(node, rest) };
  } catch (error) {
    return failed(error, () => node.close());
  }
}
