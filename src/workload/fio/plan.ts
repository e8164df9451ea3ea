/** A fio job file as a plan: its jobs in their order, groups by `stonewall` and `wait_for`, and what has no effect, by name. */
import { type Ignored, type Plan, WorkloadError, type WorkerPlan } from "../model/plan.ts";
import { type FioOption, type FioOutside, type FioSection, readFioFile } from "./file.ts";
import { FioJob, canonical } from "./job.ts";
import { type FioWorker, engineOf, isOfFiles, supported, usesDisk, workerOf } from "./workers.ts";

/** Most copies of a job. */
const MOST_COPIES = 4096;

interface Placed {
  readonly worker: FioWorker;
  readonly name: string;
  readonly job: string;
  readonly after: readonly number[];
}

function ignoredOf(sections: readonly FioSection[]): Ignored[] {
  return sections.flatMap((section) =>
    section.options.flatMap((option) => {
      const where = `${option.where}, [${section.name}]`;
      if (option.value === "") return [{ name: option.name, where, reason: "it has no value" }];
      return supported.has(canonical(option.name))
        ? []
        : [{ name: option.name, where, reason: "not supported" }];
    }),
  );
}

/** The jobs of a file, each with what [global] said before it. */
function jobsOf(sections: readonly FioSection[]): FioJob[] {
  const globals: FioOption[] = [];
  const jobs: FioJob[] = [];
  for (const { name, options } of sections) {
    if (name === "global") globals.push(...options);
    else jobs.push(new FioJob(name, [...globals, ...options]));
  }
  return jobs;
}

/** Where each group begins: after all that came before a stonewall. */
class Order {
  #wall = 0;
  #count = 0;
  readonly #byJob = new Map<string, number[]>();

  /** The workers that the job's must wait for. */
  before(job: FioJob): number[] {
    if (job.bool("stonewall")) this.#wall = this.#count;
    const after = Array.from({ length: this.#wall }, (_, i) => i);
    const named = job.text("wait_for");
    if (named === undefined) return after;
    const others = this.#byJob.get(named);
    if (!others) throw new WorkloadError(`[${job.name}]: wait_for=${named} names no job before it`);
    return [...new Set([...after, ...others])];
  }

  add(job: FioJob): void {
    this.#byJob.set(job.name, [...(this.#byJob.get(job.name) ?? []), this.#count]);
    this.#count += 1;
  }
}

function place(jobs: readonly FioJob[], ignored: Ignored[]): Placed[] {
  const order = new Order();
  const placed: Placed[] = [];
  for (const job of jobs) {
    if (!usesDisk(job)) {
      const reason = `ioengine=${engineOf(job)} does no block I/O: the job is left out`;
      ignored.push({ name: "ioengine", where: `[${job.name}]`, reason });
      continue;
    }
    const after = order.before(job);
    ignored.push(...workerOf(job, 0).partly.map((one) => ({ ...one, where: `[${job.name}]` })));
    const copies = Math.max(1, job.number("numjobs") ?? 1);
    if (copies > MOST_COPIES) throw new WorkloadError(`[${job.name}]: numjobs is more than ${MOST_COPIES}`);
    for (let copy = 0; copy < copies; copy++) {
      const name = copies === 1 ? job.name : `${job.name}.${copy}`;
      placed.push({ worker: workerOf(job, copy), name, job: job.name, after });
      order.add(job);
    }
  }
  return placed;
}

/** Each file has a part of the one disk, one after the other; where a length is not known they all begin at 0. */
function laidOut(placed: readonly Placed[]): WorkerPlan[] {
  const lengths = new Map<string, number>();
  const fileOf = ({ worker, name }: Placed, i: number): string => worker.file ?? `${i} ${name}`;
  let isKnown = true;
  for (const [i, each] of placed.entries()) {
    const { offset, bytes, offsetPercent } = each.worker.region;
    if (bytes === undefined || offsetPercent !== undefined) isKnown = false;
    const name = fileOf(each, i);
    lengths.set(name, Math.max(lengths.get(name) ?? 0, offset + (bytes ?? 0)));
  }
  const starts = new Map<string, number>();
  let at = 0;
  for (const [name, length] of lengths) {
    starts.set(name, isKnown ? at : 0);
    at += Math.ceil(length / 2 ** 20) * 2 ** 20;
  }
  return placed.map((each, i) => {
    const { file: _file, partly: _partly, region, ...worker } = each.worker;
    const offset = region.offset + starts.get(fileOf(each, i))!;
    return { ...worker, name: each.name, after: each.after, region: { ...region, offset } };
  });
}

/** The one file that all jobs work on; undefined: several, or none that is a file of the system. */
function targetOf(jobs: readonly FioJob[], placed: readonly Placed[]): string | undefined {
  const names = new Set(placed.map(({ worker }) => worker.file));
  const [name] = names;
  // A colon parts the names of several files.
  if (names.size !== 1 || name === undefined || /(^|[^\\]):/.test(name)) return undefined;
  return jobs.filter(usesDisk).every(isOfFiles) ? name.replaceAll("\\:", ":") : undefined;
}

/** Names of files that are none here: all jobs work on one disk. */
function otherFiles(target: string | undefined, placed: readonly Placed[]): Ignored[] {
  if (target !== undefined) return [];
  const named = new Set(placed.flatMap(({ worker, job }) => (worker.file === undefined ? [] : [job])));
  const reason = "several files, or those of another engine, are parts of one disk, which --target names";
  return [...named].map((job) => ({ name: "filename", where: `[${job}]`, reason }));
}

/** Reads a job file. Throws WorkloadError. */
export async function planOfFio(text: string, name: string, outside: FioOutside = {}): Promise<Plan> {
  const sections = await readFioFile(text, outside);
  const jobs = jobsOf(sections);
  if (jobs.length === 0) throw new WorkloadError("the job file has no job");
  const ignored = ignoredOf(sections);
  const placed = place(jobs, ignored);
  const target = targetOf(jobs, placed);
  ignored.push(...otherFiles(target, placed));
  const seed = jobs[0]!.number("randseed");
  const direct = jobs.some((job) => job.bool("direct") || (job.has("buffered") && !job.bool("buffered")));
  return {
    name,
    format: "fio",
    workers: laidOut(placed),
    ignored,
    wishes: {
      ...(target === undefined ? {} : { target }),
      ...(seed === undefined ? {} : { seed }),
      ...(direct ? { direct } : {}),
    },
  };
}
