/**
 * The verb `commit`: a commit job in the foreground, with qemu-img's options and words, and the emptying of the image after
 * it. An error policy and the events are those of every foreground job.
 */
import { detailOf, errnoOf, CommandError } from "../../../base/errors.ts";
import { strerror } from "../../../base/errno.ts";
import { commit as startCommit } from "../../../api/jobs.ts";
import type { Node } from "../../../node.ts";
import { commitOverlay } from "../../../api/commit.ts";
import { type KeptRun, keeping } from "../../checkpoint.ts";
import { type JobFollower, runJobs } from "../../follow.ts";
import { PercentDisplay, ProgressBar } from "../../progress.ts";
import { openImage } from "../../images.ts";
import type { Run } from "../../run.ts";
import { cacheMode } from "../../options/engine.ts";
import type { JobFlags, Policy } from "../../options/flags.ts";
import { isWatched } from "../../percent.ts";
import { Refusal, told } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { rateLimit } from "../convert/numbers.ts";

/** Options of the verb. */
export interface CommitFlags extends JobFlags {
  format?: string;
  imageOpts?: boolean;
  cache?: string;
  base?: string;
  top?: string;
  rateLimit?: string;
  drop?: boolean;
  quiet?: boolean;
  onError: Policy;
}

/** Runs the verb; resolves with the exit status. */
export async function commit(files: readonly string[], flags: CommitFlags): Promise<number> {
  const { quiet = false, json = false, progress = false } = flags;
  const percent = progress && !quiet && !json ? new PercentDisplay() : undefined;
  const display = percent ?? new ProgressBar(isWatched() && !quiet && !json);
  let done = false;
  const { checkpoint } = flags;
  const body = async (run: Run, jobs: JobFollower): Promise<void> => {
    try {
      await keeping(run, { checkpoint, kind: "commit" }, (kept) =>
        committed(jobs, { files, flags, percent, kept }),
      );
      done = true;
    } finally {
      percent?.line.end(done);
    }
  };
  const status = await runJobs(flags, body, display);
  if (status === 0 && !quiet && !json) process.stdout.write("Image committed.\n");
  return status;
}

async function committed(
  jobs: JobFollower,
  {
    files,
    flags,
    percent,
    kept,
  }: {
    files: readonly string[];
    flags: CommitFlags;
    percent: PercentDisplay | undefined;
    kept: KeptRun | undefined;
  },
): Promise<void> {
  const { format, imageOpts } = flags;
  const speed = flags.rateLimit === undefined ? (flags.speed ?? 0) : rateLimit(flags.rateLimit);
  const [file] = files;
  if (file === undefined || files.length > 1) throw misuse("Expecting one image file name");
  const cache = cacheMode(flags.cache ?? "writeback", "cache");
  const node = await openImage(jobs.run, file, {
    format,
    imageOpts,
    cache,
    write: true,
    unmap: true,
    nodeName: "image",
  });
  try {
    percent?.line.begin();
    await kept?.begin();
    await (flags.top === undefined ? commitTop : commitBelow)(jobs, node, { flags, speed, file, kept });
  } catch (error) {
    await node.close().catch(() => undefined);
    throw refusalOf(error);
  }
  await node.close();
}

interface Wanted {
  flags: CommitFlags;
  speed: number;
  file: string;
  kept: KeptRun | undefined;
}

async function commitTop(jobs: JobFollower, node: Node, { flags, speed, file, kept }: Wanted): Promise<void> {
  const { base, drop, onError } = flags;
  const { signal } = jobs.run;
  try {
    await commitOverlay(node, {
      base,
      keep: drop || base !== undefined,
      onError,
      speedBytesPerSecond: speed,
      signal,
      checkpoint: kept?.ref,
      follow: (job) => jobs.follow(job),
    });
  } catch (error) {
    if (errnoOf(error) === "ENOTSUP" && !signal.aborted)
      throw new Refusal(`Could not empty ${file}: ${strerror("ENOTSUP")}`);
    throw error;
  }
}

/** An image that is not the top: by the job alone, which links what lies above it to the one below. */
async function commitBelow(jobs: JobFollower, node: Node, { flags, speed, kept }: Wanted): Promise<void> {
  const { top, base, onError } = flags;
  const { signal } = jobs.run;
  // The links were changed before the one that ended it was killed.
  if (kept?.isEnding && !node.chain.some(({ filename }) => filename === top)) return kept.finish();
  const checkpoint = kept?.ref;
  const job = await startCommit(node, { top, base, onError, speedBytesPerSecond: speed, signal, checkpoint });
  await jobs.follow(job);
}

/** What goes wrong with an image is told with the hints that it has. */
function refusalOf(error: unknown): unknown {
  return error instanceof CommandError || detailOf(error, "hint") !== undefined
    ? new Refusal(told(error))
    : error;
}
