/**
 * Threads that carry jobs out, one job at a time each, and what the process says to them.
 *
 * Invariants: a thread that ends by itself fails its job and is replaced; its claim is released, so that the next attempt goes
 * on where it was; nothing that a thread does can keep the process from renewing its locks.
 */
import { fileURLToPath } from "node:url";
import { type MessagePort, Worker, parentPort, workerData } from "node:worker_threads";
import { type FleetJob, FleetError } from "../../fleet/jobs.ts";
import { ElsewhereError, FencedError, TargetPlace } from "./place.ts";
import { type CopyContext, carryOut } from "./copy.ts";
import { messageOf } from "../../base/errors.ts";

/** What the threads know each other by. */
const MARK = "blockwright-fleet";

type Down =
  | { readonly type: "job"; readonly job: FleetJob; readonly watchMs: number }
  | { readonly type: "go" }
  | { readonly type: "abort" };

type Up =
  | { readonly type: "claimed"; readonly target: string; readonly generation: number }
  | { readonly type: "may-transfer" }
  | { readonly type: "transferred" }
  | { readonly type: "progress"; readonly bytes: number }
  | ThreadResult;

/** What a job has at its target. */
export interface Claimed {
  readonly target: string;
  readonly generation: number;
}

/** How a job came out in its thread. */
export interface ThreadResult {
  readonly type: "result";
  readonly state: "done" | "failed" | "elsewhere";
  readonly bytes: number;
  readonly error: string;
  readonly isFinal: boolean;
}

/** Errors that the next attempt would meet again. */
const finalCodes = new Set([
  "EINVAL",
  "ENOENT",
  "ENOTSUP",
  "EACCES",
  "EPERM",
  "EISDIR",
  "ENOTDIR",
  "ENAMETOOLONG",
]);

function isFinal(error: unknown): boolean {
  if (error instanceof FleetError || error instanceof SyntaxError) return true;
  const { name, code } = error as { name?: string; code?: string };
  // What is refused before any I/O, and images that are malformed.
  if (name === "CommandError" || name === "ImageError") return true;
  return code !== undefined && finalCodes.has(code);
}

/** Runs jobs as they come from the process. To be called in a thread of startThread(). */
export function serveThread(): boolean {
  const port = parentPort;
  if (!port || workerData !== MARK) return false;
  let abort = new AbortController();
  let go: () => void = () => undefined;
  port.on("message", (message: Down) => {
    if (message.type === "go") go();
    else if (message.type === "abort") abort.abort(new Error("cancelled"));
    else {
      abort = new AbortController();
      const { signal } = abort;
      const mayTransfer = (): Promise<void> =>
        new Promise((resolve, reject) => {
          if (signal.aborted) return reject(signal.reason as Error);
          signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
          go = resolve;
          port.postMessage({ type: "may-transfer" } satisfies Up);
        });
      void runJob(port, message, { signal, mayTransfer });
    }
  });
  return true;
}

async function runJob(
  port: MessagePort,
  { job, watchMs }: { job: FleetJob; watchMs: number },
  { signal, mayTransfer }: Pick<CopyContext, "signal" | "mayTransfer">,
): Promise<void> {
  const tell = (message: Up): void => port.postMessage(message);
  let bytes = 0;
  const context: CopyContext = {
    signal,
    watchMs,
    mayTransfer,
    claimed: (target, generation) => tell({ type: "claimed", target, generation }),
    transferred: () => tell({ type: "transferred" }),
    progress: (moved) => tell({ type: "progress", bytes: (bytes = moved) }),
  };
  const ended = { type: "result", error: "", isFinal: false } as const;
  try {
    const result = await carryOut(job, context);
    tell({ ...ended, state: "done", bytes: result.bytes });
  } catch (error) {
    const isElsewhere = error instanceof FencedError || error instanceof ElsewhereError;
    const state = isElsewhere ? "elsewhere" : "failed";
    tell({ ...ended, state, bytes, error: messageOf(error), isFinal: isFinal(error) });
  }
}

/** What a job in a thread asks of its process. */
export interface ThreadCalls {
  readonly signal: AbortSignal;
  readonly watchMs: number;
  /** Resolves with what gives the place back. */
  takePlace(signal: AbortSignal): Promise<() => void>;
  progress(bytes: number): void;
}

/** A thread of the process. */
export class EngineThread {
  #worker: Worker | undefined;

  /** Carries a job out. Never rejects. One at a time. */
  run(job: FleetJob, calls: ThreadCalls): Promise<ThreadResult & { claim?: Claimed }> {
    const worker = (this.#worker ??= this.#start());
    const send = (message: Down): void => worker.postMessage(message);
    let claim: Claimed | undefined;
    let bytes = 0;
    let giveBack: () => void = () => undefined;
    return new Promise((resolve) => {
      const abort = (): void => send({ type: "abort" });
      const end = (result: ThreadResult): void => {
        calls.signal.removeEventListener("abort", abort);
        worker.off("error", died).off("exit", exited).off("message", take);
        giveBack();
        resolve({ ...result, ...(claim ? { claim } : {}) });
      };
      const died = (error: unknown): void => {
        this.#worker = undefined;
        if (claim) new TargetPlace(claim.target).release(claim.generation);
        const text = `its thread ended: ${messageOf(error)}`;
        end({ type: "result", state: "failed", bytes, error: text, isFinal: false });
      };
      const exited = (code: number): void => died(new Error(`exit status ${code}`));
      const take = (message: Up): void => {
        if (message.type === "result") return end(message);
        if (message.type === "claimed") claim = message;
        else if (message.type === "progress") calls.progress((bytes = message.bytes));
        else if (message.type === "transferred") giveBack();
        else
          void calls.takePlace(calls.signal).then(
            (give) => {
              giveBack = give;
              send({ type: "go" });
            },
            () => undefined,
          );
      };
      worker.on("error", died).on("exit", exited).on("message", take);
      calls.signal.addEventListener("abort", abort, { once: true });
      send({ type: "job", job, watchMs: calls.watchMs });
      if (calls.signal.aborted) abort();
    });
  }

  #start(): Worker {
    const worker = new Worker(fileURLToPath(import.meta.url), {
      workerData: MARK,
      // Piped into this process's streams, which stand-ins may stand for, the end of a thread would end those too.
      stdout: true,
      stderr: true,
    });
    worker.stderr.on("data", (text: Uint8Array) => process.stderr.write(text));
    const gone = (): void => {
      if (this.#worker === worker) this.#worker = undefined;
    };
    return worker.on("error", gone).on("exit", gone);
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }
}
