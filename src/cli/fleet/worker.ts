/**
 * A worker: takes jobs from a queue and has threads carry them out, within the limits on transfers.
 */
import { hostname } from "node:os";
import { dirname } from "node:path";
import type { FleetJob } from "../../fleet/jobs.ts";
import type { Delivery, FleetQueue, Outcome } from "../../fleet/queue.ts";
import { type TransferKeys, type TransferLimits, TransferSlots } from "../../fleet/slots.ts";
import { isPath } from "./copy.ts";
import { TargetPlace } from "./place.ts";
import { EngineThread } from "./thread.ts";

/** How a worker works. */
export interface WorkerOptions {
  readonly queue: FleetQueue;
  /** Jobs at once. */
  readonly atOnce: number;
  readonly limits: TransferLimits;
  /** How long an owner of a target on another machine is watched, ms. */
  readonly watchMs: number;
  /** Aborts when the worker shall end: jobs under way keep their checkpoints and go back to the queue. */
  readonly signal: AbortSignal;
  readonly note: (text: string) => void;
}

/** What counts as one store: the host of a URL, the folder of a file. */
function storeOf(name: string | undefined): string {
  if (name === undefined) return "";
  if (isPath(name)) return dirname(name);
  return URL.canParse(name) ? new URL(name).host || name.slice(0, name.indexOf(":")) : name;
}

function keysOf({ source, target }: FleetJob): TransferKeys {
  return { host: hostname(), store: storeOf(target), source: storeOf(source) };
}

/** The name by which a worker is known: host, process. */
export function workerName(): string {
  return `${hostname()}-${process.pid}`;
}

/** Works until the queue says that nothing is left, or the signal aborts. */
export async function work(options: WorkerOptions): Promise<void> {
  const { queue, atOnce, limits, signal, note } = options;
  const slots = new TransferSlots(limits);
  const idle: EngineThread[] = [];
  const threads = new Set<EngineThread>();
  const handle = async (delivery: Delivery): Promise<Outcome> => {
    const thread = idle.pop() ?? new EngineThread();
    threads.add(thread);
    try {
      return await carry(thread, delivery, { slots, ...options });
    } finally {
      idle.push(thread);
    }
  };
  try {
    await queue.work(handle, { name: workerName(), atOnce, signal, note });
  } finally {
    for (const thread of threads) await thread.close();
  }
}

async function carry(
  thread: EngineThread,
  { job, signal, progress }: Delivery,
  options: WorkerOptions & { slots: TransferSlots },
): Promise<Outcome> {
  const result = await thread.run(job, {
    signal: AbortSignal.any([signal, options.signal]),
    watchMs: options.watchMs,
    takePlace: (given) => options.slots.take(keysOf(job), given),
    progress,
  });
  const { state, bytes, error, isFinal, claim } = result;
  if (state === "done") return { state, bytes };
  // Nobody goes on with it.
  if (claim && state === "failed" && (signal.aborted || isFinal))
    new TargetPlace(claim.target).discard(claim.generation);
  if (signal.aborted) return { state: "failed", bytes, error: "cancelled", isFinal: true };
  if (options.signal.aborted) return { state: "given-back", bytes };
  return state === "elsewhere" ? { state } : { state, bytes, error, isFinal };
}
