/**
 * Looks at every event of a story and at what it says about the job: states change as the table allows, errors are
 * answered as the policy says, io-status follows, and every job ends.
 */
import type { Errno } from "../base/errno.ts";
import type { QmpEvent } from "../wire/qapi/index.ts";
import type { BlockJob } from "../job/core/block-job.ts";
import type { StoryPlan } from "./plan.ts";
import type { Trace } from "./trace.ts";

/** The states that may follow each state. */
export const legal: Readonly<Record<string, string>> = {
  undefined: "created",
  created: "running aborting null",
  running: "paused ready waiting aborting",
  paused: "running",
  ready: "standby waiting aborting",
  standby: "ready",
  waiting: "pending aborting",
  pending: "aborting concluded",
  aborting: "aborting concluded",
  concluded: "null",
  null: "",
};

/** The event oracle. */
export class Watch {
  readonly violations: string[] = [];
  status = "undefined";
  ready = false;
  /** The data of BLOCK_JOB_COMPLETED or BLOCK_JOB_CANCELLED. */
  ending: { event: string; data: Readonly<Record<string, unknown>> } | undefined;
  job: BlockJob | undefined;
  errors = 0;
  onStatus: ((status: string) => void) | undefined;
  readonly #plan: StoryPlan;
  readonly #trace: Trace;
  readonly #injected: ReadonlyMap<Errno, number>;
  #running = true;

  constructor(plan: StoryPlan, trace: Trace, injected: ReadonlyMap<Errno, number>) {
    this.#plan = plan;
    this.#trace = trace;
    this.#injected = injected;
  }

  readonly see = ({ event, data }: QmpEvent): void => {
    this.#trace.add(`event ${event} ${JSON.stringify(data)}`);
    if (event === "JOB_STATUS_CHANGE") this.#statusChange(String(data["status"]));
    else if (event === "BLOCK_JOB_ERROR") this.#jobError(data);
    else if (event === "BLOCK_JOB_READY") this.#jobReady();
    else if (event === "BLOCK_JOB_COMPLETED" || event === "BLOCK_JOB_CANCELLED") this.#jobEnd(event, data);
    else if (event === "BLOCK_IO_ERROR") this.#guestError(data);
    else if (event === "STOP" || event === "RESUME") this.#runState(event);
  };

  #bad(text: string): void {
    this.violations.push(text);
    this.#trace.add(`VIOLATION ${text}`);
  }

  #statusChange(to: string): void {
    if (!legal[this.status]!.split(" ").includes(to)) this.#bad(`status ${this.status} -> ${to}`);
    this.status = to;
    if (to === "concluded" && !this.ending) this.#bad("concluded without BLOCK_JOB_COMPLETED or _CANCELLED");
    this.onStatus?.(to);
  }

  #jobReady(): void {
    if (this.ready) this.#bad("BLOCK_JOB_READY twice");
    if (this.status !== "ready") this.#bad(`BLOCK_JOB_READY in state ${this.status}`);
    this.ready = true;
  }

  #jobError(data: Readonly<Record<string, unknown>>): void {
    this.errors += 1;
    const { job } = this.#plan;
    const { job: running } = this;
    const failure = running?.lastFailure;
    const { operation, action } = data;
    if (data["device"] !== "job") this.#bad("BLOCK_JOB_ERROR of an unknown job");
    if (job.kind === "stream" && operation !== "read") this.#bad("a stream reports reads only");
    const split = job.kind === "mirror" || job.kind === "backup";
    const policy = split && operation === "write" ? job.onTargetError : job.onSourceError;
    if (!failure) return this.#bad("BLOCK_JOB_ERROR without a failure");
    if (!this.#injected.has(failure.code))
      this.#bad(`BLOCK_JOB_ERROR for ${failure.code}, which nobody injected`);
    const stops = failure.code === "ENOSPC" ? "stop" : "report";
    const expected = policy === "enospc" || policy === "auto" ? stops : policy;
    if (action !== expected) this.#bad(`action ${String(action)} for ${failure.code} under ${policy}`);
    if (action !== "stop") return;
    const before = running.ioStatus;
    queueMicrotask(() => {
      const now = running.ioStatus;
      const wanted = before === "ok" ? (failure.code === "ENOSPC" ? "nospace" : "failed") : before;
      if (now !== wanted) this.#bad(`io-status ${now} after a stop for ${failure.code}, was ${before}`);
      if (!running.userPaused) this.#bad("stop did not pause the job");
    });
  }

  #jobEnd(event: string, data: Readonly<Record<string, unknown>>): void {
    if (this.ending) this.#bad(`${event} after ${this.ending.event}`);
    this.ending = { event, data };
    if (this.status !== "pending" && this.status !== "aborting")
      this.#bad(`${event} in state ${this.status}`);
    const failed = event === "BLOCK_JOB_CANCELLED" || data["error"] !== undefined;
    if (failed !== (this.status === "aborting")) this.#bad(`${event} in state ${this.status}`);
    const { offset, len } = data;
    if (!failed && this.#injected.size === 0 && offset !== len && !this.job?.cancelRequested)
      this.#bad(`a job that met no error ended at ${String(offset)} of ${String(len)}`);
  }

  #guestError(data: Readonly<Record<string, unknown>>): void {
    const { guest } = this.#plan;
    const { action, operation, nospace } = data;
    const policy = operation === "read" ? guest.rerror : guest.werror;
    if (policy === "enospc") {
      if (nospace !== undefined && action !== (nospace === true ? "stop" : "report"))
        this.#bad(`guest's ${String(action)} under enospc`);
    } else if (action !== policy) this.#bad(`guest's ${String(action)} under ${policy}`);
    if (this.#injected.size === 0) this.#bad("BLOCK_IO_ERROR, but nobody injected an error");
  }

  #runState(event: string): void {
    const running = event === "RESUME";
    if (this.#running === running) this.#bad(`${event} twice`);
    this.#running = running;
  }
}
