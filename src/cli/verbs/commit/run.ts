/**
 * The verb `commit`: a commit job in the foreground, with qemu-img's options and words, and the emptying of the image after
 * it. An error policy and the events are those of every foreground job.
 */
import { errnoOf, messageOf } from "../../../base/errors.ts";
import { strerror } from "../../../base/errno.ts";
import { commit as startCommit, commitOverlay, CommandError, type Node } from "../../../node.ts";
import type { CommitFlags } from "./command.ts";
import { Session } from "../../foreground.ts";
import { PercentDisplay, ProgressBar } from "../../progress.ts";
import { cacheMode, openSource } from "../../sources.ts";
import { isWatched } from "../../terminal.ts";
import { lockHint, Refusal } from "../../verb.ts";
import { rateLimit } from "../convert/numbers.ts";

/** Runs the verb; resolves with the exit status. */
export async function commit(files: readonly string[], flags: CommitFlags): Promise<number> {
  const { quiet = false, json = false, progress = false } = flags;
  const percent = progress && !quiet && !json ? new PercentDisplay() : undefined;
  const session = new Session(flags, percent ?? new ProgressBar(isWatched() && !quiet && !json));
  let done = false;
  const status = await session.run(async () => {
    try {
      await committed(session, { files, flags, percent });
      done = true;
    } finally {
      percent?.line.end(done);
    }
  });
  if (status === 0 && !quiet && !json) process.stdout.write("Image committed.\n");
  return status;
}

async function committed(
  session: Session,
  {
    files,
    flags,
    percent,
  }: { files: readonly string[]; flags: CommitFlags; percent: PercentDisplay | undefined },
): Promise<void> {
  const { format, imageOpts } = flags;
  const speed = flags.rateLimit === undefined ? (flags.speed ?? 0) : rateLimit(flags.rateLimit);
  const [file] = files;
  if (file === undefined || files.length > 1) throw new Refusal("Expecting one image file name");
  const cache = cacheMode(flags.cache ?? "writeback", "cache");
  const node = await openSource(session, file, { format, imageOpts, cache, write: true, nodeName: "image" });
  try {
    percent?.line.begin();
    await (flags.top === undefined ? commitTop : commitBelow)(session, node, { flags, speed, file });
  } catch (error) {
    await node.close().catch(() => undefined);
    throw told(error, file);
  }
  await node.close();
}

interface Wanted {
  flags: CommitFlags;
  speed: number;
  file: string;
}

async function commitTop(session: Session, node: Node, { flags, speed, file }: Wanted): Promise<void> {
  const { base, drop, onError } = flags;
  const { signal } = session;
  try {
    await commitOverlay(node, {
      base,
      keep: drop || base !== undefined,
      onError,
      speedBytesPerSecond: speed,
      signal,
      follow: (job) => session.follow(job),
    });
  } catch (error) {
    if (errnoOf(error) === "ENOTSUP" && !signal.aborted)
      throw new Refusal(`Could not empty ${file}: ${strerror("ENOTSUP")}`);
    throw error;
  }
}

/** An image that is not the top: by the job alone, which links what lies above it to the one below. */
async function commitBelow(session: Session, node: Node, { flags, speed }: Wanted): Promise<void> {
  const { top, base, onError } = flags;
  const { signal } = session;
  const job = await startCommit(node, { top, base, onError, speedBytesPerSecond: speed, signal });
  await session.follow(job);
}

/** Names the file whose lock is held by somebody else. */
function told(error: unknown, file: string): unknown {
  const message = messageOf(error);
  const words = lockHint(error, file);
  if (words !== message) return new Refusal(words);
  return error instanceof CommandError ? new Refusal(message) : error;
}
