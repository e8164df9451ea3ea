/**
 * What a gate looks at in a result: exact figures, of which more is worse. On the virtual clock all of them follow from the code,
 * the workload and the seed; on the real one only those that no clock is in.
 */
import { type Operation, RESULT_FORMAT, WorkloadError, operations } from "../model/plan.ts";
import type { ResultDocument } from "../run/document.ts";
import type { OperationResult } from "../stats/tally.ts";

/** One figure. */
export interface Metric {
  readonly name: string;
  readonly value: number;
  /** It comes from a clock, or from what happens at once. */
  readonly timed: boolean;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Checks that a value is a result of a run. Throws WorkloadError, naming it. */
export function asResult(value: unknown, what: string): ResultDocument {
  if (!isObject(value) || value["format"] !== RESULT_FORMAT)
    throw new WorkloadError(`${what} is no result of 'workload run'`);
  // A recording may say nothing of these.
  const filled = { errors: [], ignored: [], ...value };
  const result = filled as unknown as ResultDocument;
  if (!isWhole(filled) || !hasFigures(result))
    throw new WorkloadError(`${what} is a result that is not whole`);
  return result;
}

function isWhole(value: Record<string, unknown>): boolean {
  const { totals, digest, devices, workers, clock, status } = value;
  const lists = [devices, workers, value["samplesNs"] ?? [], value["errors"], value["ignored"]];
  return (
    isObject(totals) &&
    isObject(digest) &&
    lists.every((list) => Array.isArray(list)) &&
    (clock === "real" || clock === "virtual") &&
    ["done", "failed", "cancelled"].includes(status as string)
  );
}

/** Whether all that a gate judges by are numbers: one that is none would be no worse than any. */
function hasFigures(result: ResultDocument): boolean {
  try {
    const samples = (result.samplesNs ?? []).map((value) => ({ value }));
    return [...metricsOf(result), ...samples].every(({ value }) => Number.isFinite(value) && value >= 0);
  } catch (error) {
    // A part that figures are in is not there.
    if (error instanceof TypeError) return false;
    throw error;
  }
}

function ofOperation(operation: Operation, result: OperationResult): Metric[] {
  const { response } = result;
  const metric = (name: string, value: number, timed: boolean): Metric => ({
    name: `${operation}.${name}`,
    value,
    timed,
  });
  return [
    metric("requests", result.requests, false),
    metric("bytes", result.bytes, false),
    metric("errors", result.errors, false),
    metric("response.meanNs", response.meanNs, true),
    ...["p50", "p99", "p99.9"].flatMap((name) => {
      const value = response.percentilesNs[name];
      return value === undefined ? [] : [metric(`response.${name}Ns`, value, true)];
    }),
  ];
}

function ofDevices({ devices }: ResultDocument): Metric[] {
  if (devices.length === 0) return [];
  const sum = (of: "requests" | "bytes", operation: Operation): number =>
    devices.reduce((total, device) => total + device[of][operation], 0);
  const busyNs = devices.reduce((total, device) => total + device.busyNs, 0);
  return [
    ...operations.flatMap((operation) => [
      { name: `device.${operation}.requests`, value: sum("requests", operation), timed: false },
      { name: `device.${operation}.bytes`, value: sum("bytes", operation), timed: false },
    ]),
    { name: "device.busyNs", value: busyNs, timed: true },
  ];
}

/** The figures of a result, in one order. */
export function metricsOf(result: ResultDocument): Metric[] {
  const { resources } = result;
  return [
    { name: "elapsedNs", value: result.elapsedNs, timed: true },
    ...operations.flatMap((operation) => {
      const total = result.totals[operation];
      return total ? ofOperation(operation, total) : [];
    }),
    ...ofDevices(result),
    ...(resources
      ? [
          { name: "arenaPeakBytes", value: resources.arenaPeakBytes, timed: true },
          { name: "cachePeakBytes", value: resources.cachePeakBytes, timed: true },
        ]
      : []),
  ];
}

/**
 * The figures by the request, for runs that sent different ones; how many each sent is none of them. What a device does of an
 * operation that the workload has counts by its requests of that operation, so that a mix that is cut elsewhere is no difference.
 */
export function metricsByRequest(result: ResultDocument): Metric[] {
  const sent = (operation: string): number => result.totals[operation as Operation]?.requests ?? 0;
  const all = operations.reduce((sum, operation) => sum + sent(operation), 0);
  return metricsOf(result).flatMap((metric) => {
    const [group = "", name = "", figure] = metric.name.split(".");
    const isOfDevice = group === "device" && figure !== undefined;
    if (!isOfDevice && (name === "requests" || name === "bytes")) return [];
    const isSum = isOfDevice || /^(elapsedNs|device\.busyNs|.*\.errors)$/.test(metric.name);
    const by = isOfDevice ? sent(name) || all : name === "errors" ? sent(group) : all;
    return [isSum ? { ...metric, value: metric.value / Math.max(1, by) } : metric];
  });
}
