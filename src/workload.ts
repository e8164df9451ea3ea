/**
 * The entry `blockwright/workload`: the reproducible harness for block I/O, in Node and in browsers. A workload (JSON, or fio's job
 * file) is run on a disk by the real clock or a virtual one; the result is one document, with digests that say that two runs did
 * the same.
 */
import { type RunOptions as FullRunOptions, type WorkloadPlatform } from "./workload/run/setting.ts";
import { portableDrivers } from "./drivers/index.ts";
import { type Plan, WorkloadError } from "./workload/model/plan.ts";
import { planOfJson, type WorkloadJson } from "./workload/model/json.ts";
import { type ReadOptions, readWorkload } from "./workload/model/read.ts";
import type { ResultDocument } from "./workload/run/document.ts";
import { runWorkload as run } from "./workload/run/run.ts";
import type { RecordingBytes } from "./workload/trace/source.ts";
import { noHost } from "./workload/time/no-host.ts";

export type { HotSpot, Spread } from "./workload/random/places.ts";
export type { DeviceJson } from "./workload/device/model.ts";
export { deviceModels } from "./workload/device/shipped.ts";
export type { LatencyJson } from "./workload/device/latency.ts";
export type { DeviceCounts } from "./workload/device/device.ts";
export { type Difference, type GateOptions, type Verdict, gate } from "./workload/gate/gate.ts";
export type { RatioInterval } from "./workload/stats/bootstrap.ts";
export { workloadSchema } from "./workload/model/workload-schema.ts";
export type { Schema } from "./workload/model/schema.ts";
export type { JobJson, JobPlan, JobPolicy } from "./workload/model/job.ts";
export type { LocalityJson, SizesJson, WorkerJson, WorkloadJson } from "./workload/model/json.ts";
export {
  type Ignored,
  type TraceEntry,
  type Operation,
  type Plan,
  type WorkerPlan,
  WorkloadError,
} from "./workload/model/plan.ts";
export type { ReadOptions } from "./workload/model/read.ts";
export { Recorder, type RecordedRequest } from "./workload/trace/iolog.ts";
export type { ReplayOptions } from "./workload/trace/plan.ts";
export type { RecordingBytes };
export type { FioOutside } from "./workload/fio/file.ts";
export type {
  Digests,
  JobResult,
  Resources,
  ResultDocument,
  ResultError,
  WorkerResult,
} from "./workload/run/document.ts";
export type { ReportOptions } from "./workload/report/html.ts";
export { type ReportFormat, report, reportFormats } from "./workload/report/report.ts";
export type { Verified } from "./workload/run/ledger.ts";
export type { Request } from "./workload/stream/requests.ts";
export type { WorkloadPlatform } from "./workload/run/setting.ts";
export type { IsMounted, TargetResult } from "./workload/run/target.ts";
export { Histogram, type Latencies } from "./workload/stats/histogram.ts";
export type { SteadyState, SteadyWindow } from "./workload/stats/steady.ts";
export type { OperationResult } from "./workload/stats/tally.ts";
export type { DiskMapJson } from "./workload/stats/disk-map.ts";
export type { TimelineJson } from "./workload/stats/timeline.ts";

/** How a workload is run; without a platform there are no files, and the clock is the virtual one. */
export interface RunOptions extends Omit<FullRunOptions, "platform"> {
  readonly platform?: WorkloadPlatform;
}

/**
 * Reads a workload: our JSON (text or object), the text of fio's job file, or a recording (text or bytes; a function that reads its
 * bytes anew at each call keeps memory flat, however long it is). Throws WorkloadError for what is none of them.
 */
export async function parseWorkload(
  workload: string | Uint8Array | RecordingBytes | WorkloadJson,
  options: ReadOptions = {},
): Promise<Plan> {
  const isJson = typeof workload === "object" && !(workload instanceof Uint8Array);
  return isJson ? planOfJson(workload) : readWorkload(workload, options);
}

/**
 * Runs a workload. Resolves with its document also where the run failed or was cancelled: see `status` and `errors`. Throws
 * WorkloadError for what is no workload.
 */
export async function runWorkload(
  workload: string | WorkloadJson | Plan,
  options: RunOptions = {},
): Promise<ResultDocument> {
  const plan = isPlan(workload) ? workload : await parseWorkload(workload);
  if (options.platform) return run(plan, { ...options, platform: options.platform });
  const clock = options.clock ?? plan.wishes.clock ?? "virtual";
  if (clock === "real") throw new WorkloadError("the real clock needs a platform: { host, drivers }");
  return run(plan, { ...options, clock, platform: { host: noHost, drivers: portableDrivers } });
}

function isPlan(workload: string | WorkloadJson | Plan): workload is Plan {
  return typeof workload === "object" && "format" in workload && "wishes" in workload;
}
