/**
 * The jobs of a fleet, as JOBS.json has them: a list of copies and comparisons of disks by name.
 *
 * Invariants: every job has an id of its own; no two jobs write the same target; what a job says is known by its `spec`, a text that
 * is the same for the same words in any order.
 */
import { withoutPassword } from "../base/names.ts";

/** What a job does: `mirror` and `backup` of a disk that nobody writes are copies into a new image. */
export const jobKinds = ["convert", "backup", "verify", "mirror"] as const;
/** One of them. */
export type JobKind = (typeof jobKinds)[number];

/** Options of a job; all may be left out. */
export interface JobOptions {
  /** The format of the source; default: probed. */
  readonly sourceFormat?: string;
  /** The format of the target; default: raw for convert, the source's for mirror and backup; of verify: probed. */
  readonly targetFormat?: string;
  /** Options of the new image, as blockdev-create has them: `{ "cluster-size": 65536 }`. */
  readonly create?: Readonly<Record<string, unknown>>;
  /** Stores compressed clusters. */
  readonly compress?: boolean;
  readonly compressionLevel?: number;
  /** Runs of zeroes of so many bytes are not stored; 0: everything is written. */
  readonly sparseBytes?: number;
  /** Bytes per second at most; 0: no limit. */
  readonly speedBytesPerSecond?: number;
  /** A raw file is copied in so many parts, or in parts of so many bytes, by as many workers as are free; 1, or 0 bytes: in one. Default: by its length. */
  readonly shards?: number;
  readonly shardBytes?: number;
}

/** A job. */
export interface FleetJob {
  readonly id: string;
  readonly kind: JobKind;
  readonly source: string;
  /** Only verify may lack it: then the source is checked and read. */
  readonly target?: string;
  readonly options: JobOptions;
  /** Jobs of a higher one are begun first. */
  readonly priority: number;
}

/** A list of jobs, a command line or a queue that can't be used; the message says where. */
export class FleetError extends Error {
  override readonly name = "FleetError";
}

const MAX_ID = 200;
const members = new Set(["id", "kind", "source", "target", "options", "priority"]);

const optionTypes: Readonly<Record<keyof JobOptions, "string" | "boolean" | "bytes" | "object">> = {
  sourceFormat: "string",
  targetFormat: "string",
  create: "object",
  compress: "boolean",
  compressionLevel: "bytes",
  sparseBytes: "bytes",
  speedBytesPerSecond: "bytes",
  shards: "bytes",
  shardBytes: "bytes",
};

/** Those that a job has which writes nothing. */
const verifyOptions: ReadonlySet<string> = new Set(["sourceFormat", "targetFormat"]);
/** Of the new image's options those that the job says by itself. */
const ownMembers = ["driver", "file", "size"] as const;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads JOBS.json; `nameOf` is what a name of an image is known by everywhere. Throws FleetError, which names the job. */
export function parseJobs(text: string, nameOf: (name: string) => string): FleetJob[] {
  let list: unknown;
  try {
    // Some editors begin a file with a mark of its encoding.
    list = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw new FleetError(`the list of jobs is no JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(list)) throw new FleetError("the list of jobs is no array");
  const jobs = list.map((one: unknown, index) => named(readJob(one, index), nameOf));
  refuseTwice(jobs, ({ id }) => id, "id");
  refuseTwice(jobs, ({ kind, target }) => (kind === "verify" ? undefined : placeOf(target)), "target");
  refuseCircles(jobs.filter(({ kind }) => kind !== "verify"));
  return jobs;
}

/** Throws FleetError where jobs copy what they make in a circle: whichever is done first loses a disk. */
function refuseCircles(copies: readonly FleetJob[]): void {
  const writers = new Map(copies.map((job) => [placeOf(job.target), job]));
  for (const job of copies) {
    const passed = new Set<FleetJob>();
    let other = writers.get(placeOf(job.source));
    while (other && other !== job && !passed.has(other)) {
      passed.add(other);
      other = writers.get(placeOf(other.source));
    }
    if (other === job)
      throw new FleetError(
        `job '${job.id}': its target '${job.target}' is copied, by way of other jobs, to its source`,
      );
  }
}

function named(job: FleetJob, nameOf: (name: string) => string): FleetJob {
  const source = nameOf(job.source);
  if (job.target === undefined) return { ...job, source };
  const target = nameOf(job.target);
  if (target === source && job.kind !== "verify")
    throw new FleetError(`job '${job.id}': 'source' and 'target' are the same`);
  return { ...job, source, target };
}

/** A target without what says only how it is made. */
function placeOf(target: string | undefined): string | undefined {
  const [, place, query] = /^(s3:[^?]*)\?(.*)$/is.exec(target ?? "") ?? [];
  const endpoint = new URLSearchParams(query).get("endpoint");
  return endpoint === null ? (place ?? target) : `${place}?endpoint=${endpoint}`;
}

function refuseTwice(jobs: readonly FleetJob[], key: (job: FleetJob) => string | undefined, what: string) {
  const seen = new Map<string, string>();
  for (const job of jobs) {
    const value = key(job);
    if (value === undefined) continue;
    const other = seen.get(value);
    if (other !== undefined && what === "id") throw new FleetError(`two jobs have the id '${value}'`);
    if (other !== undefined)
      throw new FleetError(`job '${job.id}': its ${what} '${value}' is another job's ('${other}')`);
    seen.set(value, job.id);
  }
}

/** Reads one job, which is the `index`th of its list. Throws FleetError. */
export function readJob(value: unknown, index: number): FleetJob {
  const refuse = (what: string): never => {
    throw new FleetError(`job ${index} of the list: ${what}`);
  };
  if (!isObject(value)) return refuse("it is no object");
  const { id, kind, source, target, options = {}, priority = 0 } = value;
  if (typeof id !== "string" || id === "" || id.length > MAX_ID || /[\0-\x1f\x7f]/.test(id))
    return refuse(`'id' must be a text of 1 to ${MAX_ID} characters`);
  const refuseIt = (what: string): never => {
    throw new FleetError(`job '${id}': ${what}`);
  };
  for (const name of Object.keys(value)) if (!members.has(name)) refuseIt(`there is no member '${name}'`);
  if (!jobKinds.some((name) => name === kind)) refuseIt(`'kind' must be one of ${jobKinds.join(", ")}`);
  if (!isName(source)) return refuseIt("'source' must name an image");
  for (const [member, name] of Object.entries({ source, target }))
    if (typeof name === "string" && hasPassword(name))
      refuseIt(`'${member}' holds a user's name or password, which lists, queues and journals would keep`);
  if (target !== undefined ? !isName(target) : kind !== "verify")
    return refuseIt("'target' must name an image");
  if (target === source && kind !== "verify") refuseIt("'source' and 'target' are the same");
  if (!Number.isSafeInteger(priority) || Math.abs(priority as number) > MAX_PRIORITY)
    return refuseIt(`'priority' must be a whole number from -${MAX_PRIORITY} to ${MAX_PRIORITY}`);
  return {
    id,
    kind: kind as JobKind,
    source,
    ...(target === undefined ? {} : { target: target as string }),
    options: readOptions(options, { kind: kind as JobKind, refuse: refuseIt }),
    priority: priority as number,
  };
}

/** How high and how low a priority may be. */
export const MAX_PRIORITY = 1_000_000;

function isName(value: unknown): value is string {
  return typeof value === "string" && value !== "" && !value.includes("\0");
}

function hasPassword(name: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/i.test(name) && withoutPassword(name) !== name;
}

function readOptions(
  options: unknown,
  { kind, refuse }: { kind: JobKind; refuse: (what: string) => never },
): JobOptions {
  if (!isObject(options)) return refuse("'options' must be an object");
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(optionTypes, name))
      return refuse(`there is no option '${name}' (there are ${Object.keys(optionTypes).join(", ")})`);
    const type = optionTypes[name as keyof JobOptions];
    const isRight =
      type === "object"
        ? isObject(value)
        : type === "bytes"
          ? Number.isSafeInteger(value) && (value as number) >= 0
          : typeof value === type;
    if (!isRight)
      return refuse(`option '${name}' must be ${type === "bytes" ? "a whole number" : `a ${type}`}`);
    // What would have no effect is told of, not passed over.
    if (kind === "verify" && !verifyOptions.has(name))
      return refuse(`verify has no option '${name}' (there are ${[...verifyOptions].join(", ")})`);
    for (const own of name === "create" ? ownMembers : [])
      if (Object.hasOwn(value as object, own))
        return refuse(`option 'create' has no '${own}': that follows from the job`);
  }
  return options;
}

/** What a job says, as a text by which it is known again. */
export function specOf({ id, kind, source, target, options }: FleetJob): string {
  return canonical({ id, kind, source, target: target ?? null, options });
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const names = Object.keys(value).toSorted();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}
