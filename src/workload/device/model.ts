/**
 * Device models: how long a declared device takes, and when it fails. JSON, checked against device/schema.ts; four are shipped (shipped.ts).
 *
 *   channels        requests that are worked on at once; each keeps its channel for its latency
 *   queueDepth      requests that the device takes at once; more wait before it
 *   latency         by operation, before the first byte moves
 *   bytesPerSecond  of reads, of writes, and of all together, one after the other
 *   seek            a disk's head: least … most by the square root of the distance, and up to a rotation; 0 where it goes on
 *   cache           writes end once they are in it; it empties at its own speed, and a flush waits until it is empty
 *   cliff           after so many bytes were written, writes go at another speed
 *   zones           parts of the disk in which a share of the requests fails
 *   faults          by schedule: stall (nothing begins), slow (latencies times a factor), error, power-cut
 */
import { type Errno, isErrno } from "../../base/errno.ts";
import { type Ignored, type Operation, WorkloadError, operations } from "../model/plan.ts";
import { type Schema, checkAgainst } from "../model/schema.ts";
import { bytesOf, timeOf } from "../model/units.ts";
import { workloadSchema } from "../model/workload-schema.ts";
import { type Latency, type LatencyJson, readLatency } from "./latency.ts";
import { deviceSchema } from "./schema.ts";

type Size = number | string;
type Time = number | string;

/** A model in a file. */
export interface DeviceJson {
  name?: string;
  description?: string;
  channels?: number;
  queueDepth?: number;
  latency?: Partial<Record<Operation, LatencyJson>>;
  bytesPerSecond?: { read?: Size; write?: Size; total?: Size };
  seek?: { least: Time; most: Time; rotation?: Time };
  cache?: { size: Size; bytesPerSecond: Size; flush?: Time };
  cliff?: { after: Size; bytesPerSecond: Size };
  zones?: readonly {
    offset?: Size;
    size?: Size;
    errorRate: number;
    errno?: string;
    operations?: readonly Operation[];
  }[];
  faults?: readonly {
    kind: "stall" | "slow" | "error" | "power-cut";
    at?: Time;
    every?: Time;
    for?: Time;
    factor?: number;
    nth?: number;
    errno?: string;
    operations?: readonly Operation[];
  }[];
}

/** A part of the disk in which requests fail. */
export interface Zone {
  readonly offset: number;
  readonly end: number;
  readonly errorRate: number;
  readonly errno: Errno;
  readonly operations: ReadonlySet<Operation>;
}

/** Something that happens by schedule. */
export interface Fault {
  readonly kind: "stall" | "slow" | "error" | "power-cut";
  readonly atNs: number;
  /** 0: once. */
  readonly everyNs: number;
  readonly forNs: number;
  readonly factor: number;
  /** The request of this number fails, whenever it comes; 0: those of the time. */
  readonly nth: number;
  readonly errno: Errno;
  readonly operations: ReadonlySet<Operation>;
}

/** A model as the device works by it. Speeds are bytes per second, Infinity where there is no limit. */
export interface DeviceModel {
  readonly name: string;
  /** What it was read from: stands in results. */
  readonly source: DeviceJson;
  readonly channels: number;
  readonly queueDepth: number;
  readonly latency: Readonly<Record<Operation, Latency>>;
  readonly readSpeed: number;
  readonly writeSpeed: number;
  readonly totalSpeed: number;
  readonly seek:
    | { readonly leastNs: number; readonly mostNs: number; readonly rotationNs: number }
    | undefined;
  readonly cache: { readonly bytes: number; readonly speed: number; readonly flushNs: number } | undefined;
  readonly cliff: { readonly afterBytes: number; readonly speed: number } | undefined;
  readonly zones: readonly Zone[];
  readonly faults: readonly Fault[];
  /** Members that are not known, and have no effect. */
  readonly ignored: readonly Ignored[];
}

const fileSchema: Schema = {
  ...deviceSchema,
  ...(workloadSchema.$defs ? { $defs: workloadSchema.$defs } : {}),
};

const all: ReadonlySet<Operation> = new Set(operations);

function errnoOfModel(name: string | undefined, what: string): Errno {
  if (name === undefined) return "EIO";
  if (!isErrno(name)) throw new WorkloadError(`${what}.errno: '${name}' is no errno`);
  return name;
}

function readZones(zones: DeviceJson["zones"] = []): Zone[] {
  return zones.map((zone, i) => {
    const what = `zones[${i}]`;
    const offset = bytesOf(zone.offset ?? 0, `${what}.offset`);
    return {
      offset,
      end: zone.size === undefined ? Infinity : offset + bytesOf(zone.size, `${what}.size`),
      errorRate: zone.errorRate,
      errno: errnoOfModel(zone.errno, what),
      operations: zone.operations ? new Set(zone.operations) : all,
    };
  });
}

function readFaults(faults: DeviceJson["faults"] = []): Fault[] {
  return faults.map((fault, i) => {
    const what = `faults[${i}]`;
    const time = (name: "at" | "every" | "for"): number => timeOf(fault[name] ?? 0, `${what}.${name}`);
    const read = {
      kind: fault.kind,
      atNs: time("at"),
      everyNs: time("every"),
      forNs: time("for"),
      factor: fault.factor ?? 1,
      nth: fault.nth ?? 0,
      errno: errnoOfModel(fault.errno, what),
      operations: fault.operations ? new Set(fault.operations) : all,
    };
    checkFault(read, what);
    return read;
  });
}

function checkFault({ kind, atNs, everyNs, forNs, nth }: Fault, what: string): void {
  if (kind === "power-cut") {
    if (nth + atNs + everyNs === 0) throw new WorkloadError(`${what}: 'at', 'every' or 'nth' is missing`);
    return;
  }
  if (nth === 0 && forNs === 0) throw new WorkloadError(`${what}: 'for' or 'nth' is missing`);
  if (everyNs > 0 && forNs >= everyNs)
    throw new WorkloadError(`${what}: it lasts longer than until the next`);
}

/** Whether the power of such a device is ever cut. */
export function losesPower({ faults }: DeviceModel): boolean {
  return faults.some(({ kind }) => kind === "power-cut");
}

/** When the power is cut next, after a time; undefined: never by the clock. */
export function nextPowerCut({ faults }: DeviceModel, afterNs: number): number | undefined {
  const times = faults.flatMap(({ kind, nth, atNs, everyNs }) => {
    if (kind !== "power-cut" || nth > 0) return [];
    const first = atNs || everyNs;
    if (first > afterNs) return [first];
    return everyNs === 0 ? [] : [first + (Math.floor((afterNs - first) / everyNs) + 1) * everyNs];
  });
  return times.length === 0 ? undefined : Math.min(...times);
}

function readSpeeds({
  bytesPerSecond = {},
}: DeviceJson): Pick<DeviceModel, "readSpeed" | "writeSpeed" | "totalSpeed"> {
  const speed = (name: "read" | "write" | "total"): number => {
    const value = bytesPerSecond[name];
    return value === undefined ? Infinity : positive(bytesOf(value, `bytesPerSecond.${name}`), name);
  };
  return { readSpeed: speed("read"), writeSpeed: speed("write"), totalSpeed: speed("total") };
}

function positive(value: number, what: string): number {
  if (value <= 0) throw new WorkloadError(`${what}: must be above 0`);
  return value;
}

/** Reads a model. Throws WorkloadError. */
export function readDevice(json: DeviceJson): DeviceModel {
  const ignored = checkAgainst(fileSchema, json);
  const { seek, cache, cliff } = json;
  const latency = (name: Operation): Latency => readLatency(json.latency?.[name], `latency.${name}`);
  return {
    name: json.name ?? "model",
    source: json,
    channels: json.channels ?? 1,
    queueDepth: json.queueDepth ?? Infinity,
    latency: {
      read: latency("read"),
      write: latency("write"),
      zero: latency("zero"),
      discard: latency("discard"),
      flush: latency("flush"),
    },
    ...readSpeeds(json),
    seek: seek && {
      leastNs: timeOf(seek.least, "seek.least"),
      mostNs: timeOf(seek.most, "seek.most"),
      rotationNs: timeOf(seek.rotation ?? 0, "seek.rotation"),
    },
    cache: cache && {
      bytes: bytesOf(cache.size, "cache.size"),
      speed: positive(bytesOf(cache.bytesPerSecond, "cache.bytesPerSecond"), "cache.bytesPerSecond"),
      flushNs: timeOf(cache.flush ?? 0, "cache.flush"),
    },
    cliff: cliff && {
      afterBytes: bytesOf(cliff.after, "cliff.after"),
      speed: positive(bytesOf(cliff.bytesPerSecond, "cliff.bytesPerSecond"), "cliff.bytesPerSecond"),
    },
    zones: readZones(json.zones),
    faults: readFaults(json.faults),
    ignored: ignored.map((one) => ({ ...one, where: `device, ${one.where}` })),
  };
}
