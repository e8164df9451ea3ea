/** Files of the verb `workload`: workloads, models, results, and where the document goes. */
import { readFile, writeFile } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { messageOf } from "../../../base/errors.ts";
import {
  type Plan,
  type ReportFormat,
  WorkloadError,
  parseWorkload,
  reportFormats,
} from "../../../workload.ts";
import { printableMessage } from "../../printable.ts";
import type { WorkloadFlags } from "./flags.ts";

/** Says something on stderr. */
export function note(text: string): void {
  process.stderr.write(`blockwright workload: ${printableMessage(text)}\n`);
}

/** Reads a file. Throws WorkloadError where it can't be read. */
export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new WorkloadError(`could not read '${file}': ${messageOf(error)}`);
  }
}

/** Reads JSON. Throws WorkloadError. */
export async function readJson(file: string): Promise<unknown> {
  const text = await readText(file);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new WorkloadError(`'${file}' is no JSON: ${messageOf(error)}`);
  }
}

/** Files that a job file includes are looked for here, then beside it, as fio does. */
async function include(file: string, name: string): Promise<string> {
  try {
    return await readFile(name, "utf8");
  } catch {
    return readFile(resolve(dirname(file), name), "utf8");
  }
}

/** Reads a workload. Throws WorkloadError. */
export async function readPlan(file: string, speed?: number): Promise<Plan> {
  const text = await readText(file);
  return parseWorkload(text, {
    name: basename(file).replace(/\.(fio|json|job|ini)$/, ""),
    variables: process.env,
    ...(speed === undefined ? {} : { speed }),
    include: (name) => include(file, name),
  });
}

/** The form that --output names. Throws WorkloadError. */
export function formatOf(name = "json"): ReportFormat {
  const found = reportFormats.find((format) => format === name);
  if (!found) throw new WorkloadError(`there is no output '${name}': there are ${reportFormats.join(", ")}`);
  return found;
}

/** Writes the document to where it goes; resolves with the exit status. */
export async function writeOut({ out }: WorkloadFlags, text: string): Promise<number> {
  if (out === undefined || out === "-") {
    process.stdout.write(text);
    return 0;
  }
  try {
    await writeFile(out, text);
    return 0;
  } catch (error) {
    note(`could not write '${out}': ${messageOf(error)}`);
    return 1;
  }
}
