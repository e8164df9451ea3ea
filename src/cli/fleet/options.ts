/**
 * The options of `fleet`, read and checked; jobs with the paths that every worker can use.
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { FleetError, type FleetJob, parseJobs } from "../../fleet/jobs.ts";
import type { RetryPolicy } from "../../fleet/queue.ts";
import type { TransferLimits } from "../../fleet/slots.ts";
import type { FleetFlags } from "../verbs/fleet/flags.ts";
import { isPath } from "./names.ts";
import { reasonOf } from "../reason.ts";

/** A whole number of an option. Throws FleetError. */
export function countOf(name: string, text: string | undefined, other: number, least = 1): number {
  if (text === undefined) return other;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
  if (value < least) throw new FleetError(`--${name}: '${text}' is no whole number from ${least} on`);
  return value;
}

/** --limit. Throws FleetError. */
export function limitsOf(text: string | undefined): TransferLimits {
  const limits: { host?: number; store?: number; source?: number } = {};
  for (const part of text === undefined ? [] : text.split(",")) {
    const [, name, count] = /^(host|store|source)=([1-9]\d{0,5})$/.exec(part) ?? [];
    if (count === undefined)
      throw new FleetError(`--limit: '${part}' is not host=N, store=N or source=N with N from 1 on`);
    limits[name as keyof TransferLimits] = Number(count);
  }
  return limits;
}

/** How often jobs are tried. Throws FleetError. */
export function retriesOf({ attempts, backoff }: FleetFlags): RetryPolicy {
  return {
    attempts: countOf("attempts", attempts, 3),
    backoffMs: countOf("backoff", backoff, 1000, 0),
  };
}

/** A path as every worker can use it; `file:` is what QEMU's programs take before one. */
function absolute(name: string): string {
  if (/^file:/i.test(name)) return resolve(name.slice("file:".length));
  return isPath(name) ? resolve(name) : name;
}

/** Reads a list of jobs; names that are paths become absolute ones, by which two of the same are found. Throws FleetError. */
export function readJobs(file: string): FleetJob[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new FleetError(`'${file}': ${reasonOf(error)}`);
  }
  try {
    return parseJobs(text, absolute);
  } catch (error) {
    throw error instanceof FleetError ? new FleetError(`'${file}': ${error.message}`) : error;
  }
}
