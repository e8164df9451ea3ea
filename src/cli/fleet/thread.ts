/**
 * Threads that carry jobs out, one job at a time each, and what the process says to them.
 *
 * Invariants: a thread that ends by itself fails its job and is replaced; its claim is released, so that the next attempt goes
 * on where it was; nothing that a thread does can keep the process from renewing its locks.
 */
import { fileURLToPath } from "node:url";
import { type MessagePort, Worker, parentPort, workerData } from "node:worker_threads";
import { type FleetJob, FleetError } from "../../fleet/jobs.ts";
import { TargetPlace } from "./place.ts";
import { carryOut } from "./copy.ts";
import type { CopyContext } from "./work.ts";
import { isElsewhere } from "./parts.ts";
import type { JobProgress } from "../../fleet/queue.ts";
import { messageOf } from "../../base/errors.ts";
import { withoutSecrets } from "../printable.ts";
import { reasonWithPath } from "../reason.ts";

/** What the threads know each other by. */
const MARK = "blockwright-fleet";

type Down =
  | ({ readonly type: "job"; readonly job: FleetJob } & Given)
  | { readonly type: "go" }
  /** `isCancelled`: nobody goes on with the job. */
  | { readonly type: "abort"; readonly isCancelled: boolean };

/** What a job is carried out with. */
type Given = Pick<CopyContext, "watchMs" | "isHelper" | "checkpoint">;

type Up =
  | { readonly type: "claimed"; readonly target: string; readonly generation: number }
  | { readonly type: "may-transfer" }
  | { readonly type: "transferred" }
  | { readonly type: "progress"; readonly progress: JobProgress }
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

/** What is refused may be allowed later (credentials that had expired): who retries then goes on from the checkpoint. */
const refusals = new Set(["EACCES", "EPERM"]);

function isHopeless(error: unknown): boolean {
  const { code } = error as { code?: string };
  return isFinal(error) && !(code !== undefined && refusals.has(code));
}

/** Runs jobs as they come from the process. To be called in a thread of startThread(). */
export function serveThread(): boolean {
  const port = parentPort;
  if (!port || workerData !== MARK) return false;
  // Loaded before the first job comes; who needs it says what fails.
  void import("../../node.ts").catch(() => undefined);
  let abort = new AbortController();
  let go: () => void = () => undefined;
  let isCancelled = false;
  port.on("message", (message: Down) => {
    if (message.type === "go") go();
    else if (message.type === "abort") {
      isCancelled = message.isCancelled;
      abort.abort(new Error("cancelled"));
    } else {
      isCancelled = false;
      abort = new AbortController();
      const { signal } = abort;
      const mayTransfer = (): Promise<void> =>
        new Promise((resolve, reject) => {
          if (signal.aborted) return reject(signal.reason as Error);
          const giveUp = (): void => reject(signal.reason as Error);
          signal.addEventListener("abort", giveUp, { once: true });
          go = () => {
            signal.removeEventListener("abort", giveUp);
            resolve();
          };
          port.postMessage({ type: "may-transfer" } satisfies Up);
        });
      const isGivenUp = (error: unknown): boolean =>
        !message.isHelper && !isElsewhere(error) && (signal.aborted ? isCancelled : isHopeless(error));
      void runJob(port, message, { signal, mayTransfer, isGivenUp });
    }
  });
  return true;
}

/** What may be kept and shown of a failure: without passwords, cookies, and what lets in whoever has a signed URL. */
function tellable(text: string): string {
  const keys =
    /([?&](?:x-(?:amz|goog|ms)-[\w-]+|sig|signature|\w*token|\w*key|\w*password|\w*secret)=)[^&\s'"]*/gi;
  return withoutSecrets(text).replaceAll(keys, "$1***");
}

async function runJob(
  port: MessagePort,
  { job, watchMs, isHelper, checkpoint }: Extract<Down, { type: "job" }>,
  calls: Pick<CopyContext, "signal" | "mayTransfer" | "isGivenUp">,
): Promise<void> {
  const tell = (message: Up): void => port.postMessage(message);
  let bytes = 0;
  const context: CopyContext = {
    ...calls,
    watchMs,
    isHelper,
    checkpoint,
    claimed: (target, generation) => tell({ type: "claimed", target, generation }),
    transferred: () => tell({ type: "transferred" }),
    progress: (progress) => {
      ({ bytes } = progress);
      tell({ type: "progress", progress });
    },
  };
  const ended = { type: "result", error: "", isFinal: false } as const;
  try {
    const result = await carryOut(job, context);
    tell({ ...ended, state: "done", bytes: result.bytes });
  } catch (error) {
    const state = isElsewhere(error) ? "elsewhere" : "failed";
    tell({ ...ended, state, bytes, error: tellable(reasonWithPath(error)), isFinal: isFinal(error) });
  }
}

/** What a job in a thread asks of its process. */
export interface ThreadCalls extends Given {
  readonly signal: AbortSignal;
  /** Whether the signal means that nobody goes on with the job. */
  isCancelled(): boolean;
  /** Resolves with what gives the place back. */
  takePlace(signal: AbortSignal): Promise<() => void>;
  progress(progress: JobProgress): void;
}

/** A thread of the process. */
export class EngineThread {
  #worker: Worker | undefined;

  /** Carries a job out. Never rejects. One at a time. */
  run(job: FleetJob, calls: ThreadCalls): Promise<ThreadResult> {
    const worker = (this.#worker ??= this.#started());
    const send = (message: Down): void => worker.postMessage(message);
    let claim: Claimed | undefined;
    let bytes = 0;
    let giveBack: () => void = () => undefined;
    return new Promise((resolve) => {
      const abort = (): void => send({ type: "abort", isCancelled: calls.isCancelled() });
      const end = (result: ThreadResult): void => {
        calls.signal.removeEventListener("abort", abort);
        worker.off("error", died).off("exit", exited).off("message", take);
        giveBack();
        resolve(result);
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
        else if (message.type === "progress") {
          ({ bytes } = message.progress);
          calls.progress(message.progress);
        } else if (message.type === "transferred") giveBack();
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
      const { watchMs, isHelper, checkpoint } = calls;
      send({ type: "job", job, watchMs, isHelper, checkpoint });
      if (calls.signal.aborted) abort();
    });
  }

  /** Starts it, so that it is there when a job comes. */
  start(): void {
    this.#worker ??= this.#started();
  }

  #started(): Worker {
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
