/** Reading a workload: a file that begins with `{` is ours, a recording is replayed, any other is fio's job file. */
import { planOfFio } from "../fio/plan.ts";
import type { FioOutside } from "../fio/file.ts";
import { type ReplayOptions, isRecording, planOfRecording } from "../trace/plan.ts";
import { type RecordingBytes, bytesInMemory } from "../trace/source.ts";
import { planOfJson } from "./json.ts";
import { type Plan, WorkloadError } from "./plan.ts";

/** What a workload's text does not say. */
export interface ReadOptions extends FioOutside, ReplayOptions {
  /** What the workload is called where its file does not say; default: `workload`. */
  readonly name?: string;
}

/** Reads a workload or a recording. Throws WorkloadError. */
export async function readWorkload(
  source: string | Uint8Array | RecordingBytes,
  options: ReadOptions = {},
): Promise<Plan> {
  const { name = "workload" } = options;
  const bytes = bytesOf(source);
  if (isRecording(bytes)) return planOfRecording(bytes, name, options);
  const body = typeof source === "string" ? source.replace(/^\uFEFF/, "") : textOf(bytes);
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

function bytesOf(source: string | Uint8Array | RecordingBytes): RecordingBytes {
  if (typeof source === "function") return source;
  return bytesInMemory(typeof source === "string" ? new TextEncoder().encode(source) : source);
}

function textOf(source: RecordingBytes): string {
  const decoder = new TextDecoder();
  let text = "";
  for (const piece of source()) text += decoder.decode(piece, { stream: true });
  return text + decoder.decode();
}
