/**
 * The actions of `fleet`.
 *
 * Exit status: 0; 1 where a job has failed; 2 for a list of jobs, a command line or a queue that can't be used; 130 and 143 after
 * SIGINT and SIGTERM, which let jobs under way keep what they have; a second signal ends the program at once.
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { FleetError } from "../../fleet/jobs.ts";
import { LocalQueue } from "../../fleet/local-queue.ts";
import { drainedText, type FleetQueue } from "../../fleet/queue.ts";
import { nodeClock } from "../../platform/node/clock.ts";
import { printableMessage } from "../printable.ts";
import type { FleetAction, FleetFlags } from "../verbs/fleet/flags.ts";
import { queueReason } from "./backend.ts";
import { showDashboard } from "./dashboard.ts";
import { FolderJournal } from "./journal.ts";
import { isPath } from "./names.ts";
import { countOf, limitsOf, readJobs, retriesOf } from "./options.ts";
import { report, showProgress } from "./report.ts";
import { goodbye } from "./silence.ts";
import { LOOK_MS, waitForAll } from "./wait.ts";
import { work } from "./worker.ts";
import { reasonWithPath } from "../reason.ts";

const LEASE_MS = 30_000;
const WORKERS = 2;

function note(text: string): void {
  process.stderr.write(`${printableMessage(`blockwright fleet: ${text}`)}\n`);
}

/** The end by a signal. */
interface Ending {
  readonly signal: AbortSignal;
  /** The exit status where there was one. */
  status(): number | undefined;
  stop(): void;
}

/** Whether an action has nothing to bring to an end when it is told to end. */
function isBrief(action: FleetAction, { wait, dashboard }: FleetFlags): boolean {
  if (action === "submit") return !wait;
  if (action === "status") return dashboard === undefined;
  return action !== "run" && action !== "worker";
}

function endings(isBriefOne: boolean): Ending {
  const abort = new AbortController();
  let status: number | undefined;
  const end = (of: number) => (): void => {
    if (isBriefOne || status !== undefined) process.exit(of);
    status = of;
    abort.abort(new Error("the worker ends"));
  };
  const [interrupted, terminated] = [end(130), end(143)];
  process.on("SIGINT", interrupted).on("SIGTERM", terminated);
  return {
    signal: abort.signal,
    status: () => status,
    stop: () => void process.off("SIGINT", interrupted).off("SIGTERM", terminated),
  };
}

/** Carries an action out; resolves with the exit status. */
export async function runFleet(
  action: FleetAction,
  words: readonly string[],
  flags: FleetFlags,
): Promise<number> {
  const ending = endings(isBrief(action, flags));
  try {
    const status = await actions[action](words, flags, ending.signal);
    return ending.status() ?? status;
  } catch (error) {
    if (ending.status() !== undefined) return ending.status()!;
    note(reasonWithPath(error));
    return 2;
  } finally {
    ending.stop();
  }
}

type Action = (words: readonly string[], flags: FleetFlags, signal: AbortSignal) => Promise<number>;

const actions: Readonly<Record<FleetAction, Action>> = {
  run: runHere,
  submit,
  worker: serve,
  status: (words, flags, signal) => {
    noWords(words);
    return withQueue(flags, (queue) =>
      flags.dashboard === undefined ? reportQueue(queue, flags) : showUntil(queue, flags, signal),
    );
  },
  cancel: (words, flags) =>
    withQueue(flags, async (queue) => {
      tellCount(flags, "cancelled", await queue.cancel(words.length > 0 ? words : undefined));
      return 0;
    }),
  drain,
  retry: (words, flags) =>
    withQueue(flags, async (queue) => {
      if (words.length === 0 && !flags.failed) throw new FleetError("retry needs ids of jobs, or --failed");
      tellCount(flags, "retried", await queue.retry(words.length > 0 ? words : undefined));
      return 0;
    }),
};

async function reportQueue(queue: FleetQueue, flags: FleetFlags): Promise<number> {
  const status = await report(queue, flags);
  if (await queue.isDrained()) note(drainedText);
  return status;
}

/** Serves the page until the signal aborts. */
async function showUntil(queue: FleetQueue, flags: FleetFlags, signal: AbortSignal): Promise<number> {
  // A server that is not there is told at once.
  await queue.counts();
  const close = await showDashboard(queue, flags, note);
  if (!signal.aborted) await once(signal, "abort");
  await close();
  return 0;
}

function noWords(words: readonly string[]): void {
  if (words.length > 0) throw new FleetError(`unexpected argument '${words[0]}'`);
}

function tellCount({ json }: FleetFlags, what: string, count: number): void {
  process.stdout.write(json ? `${JSON.stringify({ [what]: count })}\n` : `${count} ${what}\n`);
}

function jobsFile(words: readonly string[]): string {
  const [file, ...more] = words;
  if (file === undefined || more.length > 0) throw new FleetError("expecting one list of jobs: JOBS.json");
  return file;
}

async function runHere(words: readonly string[], flags: FleetFlags, signal: AbortSignal): Promise<number> {
  if (flags.queue !== undefined) throw new FleetError("run has no queue: use submit and worker");
  const file = jobsFile(words);
  const jobs = readJobs(file);
  const retries = retriesOf(flags);
  const atOnce = countOf("workers", flags.workers, WORKERS);
  const limits = limitsOf(flags.limit);
  const watchMs = countOf("lease", flags.lease, LEASE_MS);
  const folder = flags.journal ?? `${file}.journal`;
  if (flags.journal === undefined) note(`journal: ${folder}`);
  using journal = new FolderJournal(folder);
  // What is done and has gone since is done once more.
  for (const { id, kind, target = "" } of jobs)
    if (journal.known.get(id)?.state === "done" && kind !== "verify" && isPath(target) && !existsSync(target))
      journal.known.delete(id);
  const queue = new LocalQueue({ clock: nodeClock, journal, retries });
  await queue.submit(jobs);
  const close = await showDashboard(queue, flags, note);
  const hide = showProgress(queue);
  try {
    await work({ queue, atOnce, limits, watchMs, signal, note });
  } finally {
    hide();
    await close();
    await queue.close();
  }
  if (!flags.jobs) await tellFailures(queue);
  return report(queue, flags);
}

async function tellFailures(queue: FleetQueue): Promise<void> {
  for (const { id, state, lastError } of await queue.rows())
    if (state === "failed") note(`job '${id}' failed: ${lastError}`);
}

async function withQueue<T>(flags: FleetFlags, body: (queue: FleetQueue) => Promise<T>): Promise<T> {
  const { openQueue } = await import("./queues.ts");
  const queue = await openQueue(flags.queue, {
    retries: retriesOf(flags),
    leaseMs: countOf("lease", flags.lease, LEASE_MS, 1000),
    exitsIdle: flags.idleExit ?? false,
  });
  try {
    return await body(queue);
  } catch (error) {
    throw error instanceof FleetError ? error : new FleetError(`the queue: ${queueReason(error)}`);
  } finally {
    await goodbye(queue.close());
    // Connections to a server that is silent are nothing to wait for; what is still to be written is.
    setInterval(() => process.stdout.writableLength === 0 && process.exit(), LOOK_MS).unref();
  }
}

async function submit(words: readonly string[], flags: FleetFlags, signal: AbortSignal): Promise<number> {
  const jobs = readJobs(jobsFile(words));
  return withQueue(flags, async (queue) => {
    const { added, known } = await queue.submit(jobs);
    if (await queue.isDrained()) note(drainedText);
    if (!flags.wait) {
      const text = flags.json
        ? JSON.stringify({ added, known })
        : `${added} submitted, ${known} known already`;
      process.stdout.write(`${text}\n`);
      return 0;
    }
    const hide = showProgress(queue);
    try {
      await waitForAll(queue, jobs, { signal, note });
    } finally {
      hide();
    }
    if (!flags.jobs) await tellFailures(queue);
    return report(queue, flags);
  });
}

async function serve(words: readonly string[], flags: FleetFlags, signal: AbortSignal): Promise<number> {
  noWords(words);
  const atOnce = countOf("workers", flags.workers, WORKERS);
  const limits = limitsOf(flags.limit);
  const watchMs = countOf("lease", flags.lease, LEASE_MS, 1000);
  return withQueue(flags, async (queue) => {
    await work({ queue, atOnce, limits, watchMs, signal, note });
    return 0;
  });
}

async function drain(words: readonly string[], flags: FleetFlags, signal: AbortSignal): Promise<number> {
  noWords(words);
  return withQueue(flags, async (queue) => {
    await queue.drain(!flags.resume);
    while (!flags.resume && !signal.aborted && (await queue.counts()).running > 0)
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS / 10));
    await report(queue, flags);
    return 0;
  });
}
