/** A block job as one of a workload's workers: which, with what policy, and what becomes of it when it is ready. */
import type { TypeOf } from "../../wire/qapi/index.ts";

/** A job in a file. */
export interface JobJson {
  type: "mirror" | "backup" | "stream" | "commit";
  target?: string | object;
  sync?: "full" | "top" | "none";
  copyMode?: TypeOf<"MirrorCopyMode">;
  speed?: number | string;
  onError?: JobPolicy;
  onSourceError?: JobPolicy;
  onTargetError?: JobPolicy;
  whenReady?: "complete" | "cancel";
  resumeAfter?: number | string;
  resumes?: number;
}

/** QEMU's policies. */
export type JobPolicy = TypeOf<"BlockdevOnError">;

/** A job as it is started. */
export interface JobPlan {
  readonly type: JobJson["type"];
  /** A path, URL, or description; undefined: memory. */
  readonly target: unknown;
  readonly sync: "full" | "top" | "none" | undefined;
  readonly copyMode: TypeOf<"MirrorCopyMode"> | undefined;
  /** 0: no limit. */
  readonly bytesPerSecond: number;
  readonly onSourceError: JobPolicy;
  readonly onTargetError: JobPolicy;
  readonly whenReady: "complete" | "cancel";
  /** How long a job that an error has stopped waits for its user, and how often that one comes. */
  readonly resumeAfterNs: number;
  readonly resumes: number;
}

const RESUME_AFTER_NS = 10e6;
const RESUMES = 100;

/** Whether a job copies to a target of its own. */
export function hasTarget({ type }: { type: JobJson["type"] }): boolean {
  return type === "mirror" || type === "backup";
}

/** Reads a job; sizes and times are read by the caller's readers. */
export function readJob(
  job: JobJson,
  { bytes, time }: { bytes: (value: number | string) => number; time: (value: number | string) => number },
): JobPlan {
  const { onError = "report" } = job;
  return {
    type: job.type,
    target: job.target,
    sync: job.sync,
    copyMode: job.copyMode,
    bytesPerSecond: job.speed === undefined ? 0 : bytes(job.speed),
    onSourceError: job.onSourceError ?? onError,
    onTargetError: job.onTargetError ?? onError,
    whenReady: job.whenReady ?? "complete",
    resumeAfterNs: job.resumeAfter === undefined ? RESUME_AFTER_NS : time(job.resumeAfter),
    resumes: job.resumes ?? RESUMES,
  };
}
