/** Files of the verb `workload`: workloads, models, results, and where the document goes. */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { readFile, stat, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { basename, dirname, resolve } from "node:path";
import { messageOf } from "../../../base/errors.ts";
import {
  type Plan,
  Recorder,
  type RecordingBytes,
  type ReportFormat,
  WorkloadError,
  parseWorkload,
  reportFormats,
} from "../../../workload.ts";
import { printableMessage } from "../../printable.ts";
import type { WorkloadFlags } from "./flags.ts";
import { reasonOf } from "../../reason.ts";

/** Says something on stderr. */
export function note(text: string): void {
  process.stderr.write(`blockwright workload: ${printableMessage(text)}\n`);
}

/** Reads a file. Throws WorkloadError where it can't be read. */
export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new WorkloadError(`could not read '${file}': ${reasonOf(error)}`);
  }
}

/** A workload's bytes. Throws WorkloadError where there are none to read. */
async function sourceOf(file: string): Promise<RecordingBytes> {
  try {
    if ((await stat(file)).isFile()) return piecesOf(file);
  } catch (error) {
    throw new WorkloadError(`could not read '${file}': ${reasonOf(error)}`);
  }
  // What can't be read twice is kept.
  const text = new TextEncoder().encode(await readText(file));
  return () => [text];
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

/** Bytes that are read of a file at once. */
const PIECE = 2 ** 20;

/** A file's bytes, read a piece at a time: a recording may be longer than memory. */
function piecesOf(file: string): RecordingBytes {
  return function* () {
    const fd = openSync(file, "r");
    try {
      const piece = new Uint8Array(PIECE);
      for (let got = 0; (got = readSync(fd, piece, 0, PIECE, null)) > 0;) yield piece.subarray(0, got);
    } finally {
      closeSync(fd);
    }
  };
}

/** A recorder into a file, which takes what is sent as it is sent. Throws WorkloadError where there can be no such file. */
export function recorderInto(file: string): Recorder {
  let fd: number;
  try {
    fd = openSync(file, "w");
  } catch (error) {
    throw new WorkloadError(`could not write '${file}': ${reasonOf(error)}`);
  }
  return new Recorder((text) => void writeSync(fd, text));
}

function memoryMib(): string {
  return String(Math.floor(totalmem() / 2 ** 20));
}

/** Reads a workload. Throws WorkloadError. */
export async function readPlan(file: string, speed?: number): Promise<Plan> {
  return parseWorkload(await sourceOf(file), {
    name: basename(file).replace(/\.(fio|json|job|ini)$/, ""),
    variables: { ...process.env, pagesize: "4096", mb_memory: memoryMib(), ncpus: String(cpus().length) },
    ...(speed === undefined ? {} : { speed }),
    include: (name) => include(file, name),
  });
}

/** Whether it names a form. */
export function isFormat(name: string | undefined): name is ReportFormat {
  return reportFormats.some((format) => format === name);
}

/** The form that --output names. Throws WorkloadError. */
export function formatOf(name = "json"): ReportFormat {
  if (!isFormat(name))
    throw new WorkloadError(`there is no output '${name}': there are ${reportFormats.join(", ")}`);
  return name;
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
    note(`could not write '${out}': ${reasonOf(error)}`);
    // What was measured is not lost.
    process.stdout.write(text);
    return 1;
  }
}
