/**
 * The result of a run: one document, whatever happened. What is not known (a run that failed before its disk was open) is null.
 * On the virtual clock everything in it follows from the workload, the model and the seed.
 */
import type { DeviceCounts } from "../device/device.ts";
import type { DeviceJson } from "../device/model.ts";
import type { JobJson } from "../model/job.ts";
import { type Ignored, type Operation, RESULT_FORMAT } from "../model/plan.ts";
import type { RatioInterval } from "../stats/bootstrap.ts";
import type { DiskMapJson } from "../stats/disk-map.ts";
import type { SteadyState } from "../stats/steady.ts";
import type { OperationResult } from "../stats/tally.ts";
import type { TimelineJson } from "../stats/timeline.ts";
import type { Verified } from "./ledger.ts";
import type { TargetResult } from "./target.ts";

/** The version of the document. */
export const RESULT_VERSION = 1;

/** Something that went wrong. */
export interface ResultError {
  readonly message: string;
  readonly code?: string;
  readonly worker?: string;
  readonly operation?: Operation;
  readonly offset?: number;
  readonly bytes?: number;
  /** How often, where it was more than once. */
  readonly times?: number;
}

/** The digests of a run; null where it did not come so far. */
export interface Digests {
  readonly requests: string | null;
  readonly data: string | null;
  readonly disk: string | null;
}

/** What became of a job. */
export interface JobResult {
  readonly type: JobJson["type"];
  readonly status: "completed" | "cancelled" | "failed";
  readonly error?: string;
  /** How far it came, of what there was to do, bytes. */
  readonly offset: number;
  readonly length: number;
  readonly ioStatus: string;
  /** How many errors it told of (BLOCK_JOB_ERROR). */
  readonly errors: number;
}

/** A worker's part of a result. */
export interface WorkerResult {
  readonly name: string;
  readonly beginNs: number;
  readonly endNs: number;
  readonly requests: number;
  /** Time, its own or another worker's, ended it: a faster run sends more. */
  readonly endsByTime: boolean;
  readonly digest: { readonly requests: string; readonly data: string };
  readonly operations: Partial<Record<Operation, OperationResult>>;
  /** Of a worker that is a job. */
  readonly job?: JobResult;
}

/** What a run took beside time: exact on the virtual clock. */
export interface Resources {
  readonly arenaPeakBytes: number;
  /** Most bytes that caches of metadata held. */
  readonly cachePeakBytes: number;
}

/** The result of a run. */
export interface ResultDocument {
  readonly format: typeof RESULT_FORMAT;
  readonly version: number;
  readonly workload: string;
  readonly status: "done" | "failed" | "cancelled";
  readonly seed: number;
  readonly clock: "real" | "virtual";
  /** Name of the device model; null: the real device's own speed. */
  readonly device: string | null;
  readonly digest: Digests;
  readonly errors: readonly ResultError[];
  readonly ignored: readonly Ignored[];
  readonly notes: readonly string[];
  readonly deviceModel: DeviceJson | null;
  readonly target: TargetResult | null;
  readonly elapsedNs: number;
  /** How often the power was cut, where the model cuts it. */
  readonly powerCuts?: number;
  /** What a run that was to be verified found. */
  readonly verified?: Verified;
  /** Of several runs: how long each took, ns. */
  readonly samplesNs?: readonly number[];
  /** Another program that was run in turn with it. */
  readonly versus?: {
    readonly command: string;
    readonly samplesNs: readonly number[];
    /** Our times by theirs. */
    readonly interval: RatioInterval;
    readonly verdict: "slower" | "not slower" | "no verdict";
  };
  readonly totals: Partial<Record<Operation, OperationResult>>;
  readonly workers: readonly WorkerResult[];
  readonly timeline: TimelineJson | null;
  /** Which parts of the disk were read and changed over time. */
  readonly diskMap: DiskMapJson | null;
  readonly steadyState: SteadyState | null;
  /** What came to the declared devices, one each; empty without a model. */
  readonly devices: readonly DeviceCounts[];
  readonly resources: Resources | null;
  /** Where it ran; null on the virtual clock, of which nothing depends on it. */
  readonly environment: Readonly<Record<string, unknown>> | null;
}

/** What is known before anything has run. */
export type Beginning = Pick<ResultDocument, "workload" | "seed" | "clock" | "device">;

/** A document of a run that did not begin, or of which nothing is known yet. */
export function emptyDocument(known: Beginning): ResultDocument {
  return {
    format: RESULT_FORMAT,
    version: RESULT_VERSION,
    workload: known.workload,
    status: "failed",
    seed: known.seed,
    clock: known.clock,
    device: known.device,
    digest: { requests: null, data: null, disk: null },
    errors: [],
    ignored: [],
    notes: [],
    deviceModel: null,
    target: null,
    elapsedNs: 0,
    totals: {},
    workers: [],
    timeline: null,
    diskMap: null,
    steadyState: null,
    devices: [],
    resources: null,
    environment: null,
  };
}
