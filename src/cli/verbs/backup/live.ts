/**
 * `backup restore --live ADDRESS`: the disk is served by NBD from the first moment on, while it is restored.
 *
 * Invariants: OUT has its name once it holds the whole disk, durably, and is served on until the last client has gone, as by `nbd`; before that a
 * failure, a signal or a kill leaves no OUT, and the next run goes on with what clients had flushed, and with what was filled a second before.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { liveRestore } from "../../../api/live-restore.ts";
import { serveNbd } from "../../../api/serve-nbd.ts";
import { closing } from "../../../base/lease.ts";
import { deferred, onAbort } from "../../../base/signals.ts";
import type { Node } from "../../../node.ts";
import type { Run } from "../../run.ts";

/** What is served and filled. */
export interface LiveTarget {
  readonly from: Node;
  readonly target: Node;
  /** Where it is kept what the target has. */
  readonly map: Node;
  /** Of the filling, bytes per second. */
  readonly speed: number | undefined;
  /** Where NBD listens: `unix:PATH` or `HOST:PORT`. */
  readonly address: string;
  /** Told the disk's URL, once clients may come. */
  readonly onServed: (url: string) => void;
  /** The target has the whole disk: it gets its name. */
  readonly publish: () => Promise<void>;
}

/** Fills the target, and serves it until that is done and the last client has gone. */
export async function fillServed(verb: Run, live: LiveTarget): Promise<void> {
  const { node, job } = await liveRestore(live.from, live.target, {
    map: live.map,
    speedBytesPerSecond: live.speed,
    signal: verb.signal,
  });
  const idle = deferred();
  let [clients, came, filled] = [0, false, false];
  const settle = (): void => {
    if (filled && came && clients === 0) idle.resolve();
  };
  const serve = async (): Promise<void> => {
    await using service = await serveNbd(node, {
      address: live.address,
      writable: true,
      onClients: (now, gone) => {
        clients = now;
        came ||= gone?.served ?? false;
        settle();
      },
    });
    live.onServed(service.url);
    await followed(verb, node, job);
    await live.publish();
    filled = true;
    settle();
    const forget = onAbort(verb.signal, () => idle.resolve());
    if (!verb.signal.aborted) await idle.promise;
    forget();
  };
  const give = async (): Promise<void> => {
    if (!job.isCompleted) await job.cancel({ force: true }).catch(() => undefined);
    await job.done.catch(() => undefined);
    await node.flush().catch(() => undefined);
    await node.close();
  };
  await closing(serve, give);
}

const SHOW_MS = 200;
/** How much of what was filled is filled again after a kill at most, by time. */
const KEEP_MS = 1000;

async function followed(
  verb: Run,
  node: Node,
  job: { readonly offset: number; readonly length: number; readonly done: Promise<unknown> },
): Promise<void> {
  const timer = setInterval(() => verb.progress.show(job.offset, Math.max(1, job.length)), SHOW_MS);
  let isOver = false;
  const keeping = (async () => {
    while (!isOver) {
      await Promise.race([sleep(KEEP_MS, undefined, { ref: false }), job.done.catch(() => undefined)]);
      // A failure is told to whoever needs what was to be flushed.
      if (!isOver) await node.flush().catch(() => undefined);
    }
  })();
  try {
    await job.done;
  } finally {
    isOver = true;
    clearInterval(timer);
    await keeping;
  }
}
