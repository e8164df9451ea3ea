/** Reading a workload: a file that begins with `{` is ours, a recording is replayed, any other is fio's job file. */
import { planOfFio } from "../fio/plan.ts";
import type { FioOutside } from "../fio/file.ts";
import { type ReplayOptions, isRecording, planOfRecording } from "../fio/iolog.ts";
import { planOfJson } from "./json.ts";
import { type Plan, WorkloadError } from "./plan.ts";

/** What a workload's text does not say. */
export interface ReadOptions extends FioOutside, ReplayOptions {
  /** What the workload is called where its file does not say; default: `workload`. */
  readonly name?: string;
}

/** Reads a workload's text. Throws WorkloadError. */
export async function readWorkload(text: string, options: ReadOptions = {}): Promise<Plan> {
  const { name = "workload" } = options;
  const body = text.replace(/^\uFEFF/, "");
  if (isRecording(body)) return planOfRecording(body, name, options);
  if (!body.trimStart().startsWith("{")) return planOfFio(body, name, options);
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    throw new WorkloadError(`the workload is no JSON: ${(error as Error).message}`);
  }
  const plan = planOfJson(value);
  return plan.name === "workload" ? { ...plan, name } : plan;
}
