/**
 * The limits of a throttle group as QAPI's ThrottleLimits has them, checked in the words of QEMU 7.2.
 * Averages and bursts are bytes/s or requests/s, lengths are seconds.
 */
import { blockError } from "../../base/errors.ts";

/** What a bucket counts. */
export const throttleBuckets = [
  "bps-total",
  "bps-read",
  "bps-write",
  "iops-total",
  "iops-read",
  "iops-write",
] as const;
/** One of the six buckets. */
export type ThrottleBucketName = (typeof throttleBuckets)[number];

/** The name of a limit in commands older than throttle groups: `bps_rd`, `iops_max_length`. */
export function oldLimitName(name: string): string {
  return name
    .replace("-total", "")
    .replace("-read", "_rd")
    .replace("-write", "_wr")
    .replace("-max-length", "_max_length")
    .replace("-max", "_max")
    .replace("iops-size", "iops_size");
}

/**
 * Limits by wire name. 0 or absent = unlimited. `…-max` allows bursts at that rate for `…-max-length` seconds (default
 * 1). A request of more than `iops-size` bytes counts as several.
 */
export type ThrottleLimits = {
  [name in ThrottleBucketName | `${ThrottleBucketName}-max` | `${ThrottleBucketName}-max-length`]?: number;
} & { "iops-size"?: number };

/** One bucket's limits. */
export interface BucketConfig {
  /** Units per second; 0 = unlimited. */
  average: number;
  /** Units per second during a burst; 0 = no bursts. */
  burst: number;
  /** Seconds that a burst may last, >= 1. */
  burstSeconds: number;
}

/** All limits of a group. */
export interface ThrottleConfig {
  buckets: Record<ThrottleBucketName, BucketConfig>;
  /** Bytes that count as one request; 0 = each request counts once. */
  requestBytes: number;
}

const MAX_VALUE = 1e15;
const UINT_MAX = 2 ** 32 - 1;
const TWO_64 = 2 ** 64;

function fail(message: string): never {
  throw blockError("EINVAL", "throttle", message);
}

/** No limits at all. */
export function unlimited(): ThrottleConfig {
  const bucket = (): BucketConfig => ({ average: 0, burst: 0, burstSeconds: 1 });
  return {
    buckets: {
      "bps-total": bucket(),
      "bps-read": bucket(),
      "bps-write": bucket(),
      "iops-total": bucket(),
      "iops-read": bucket(),
      "iops-write": bucket(),
    },
    requestBytes: 0,
  };
}

/** The wire wraps negative numbers around, as the checks of QEMU see them. */
function unsigned(value: number): number {
  return value < 0 ? value + TWO_64 : value;
}

/** `base` with `changes` over it, checked. Throws EINVAL. */
export function applyLimits(base: ThrottleConfig, changes: ThrottleLimits): ThrottleConfig {
  const config = structuredClone(base);
  for (const name of throttleBuckets) {
    const bucket = config.buckets[name];
    const length = changes[`${name}-max-length`];
    if (length !== undefined && length > UINT_MAX) {
      fail(`${name}-max-length value must be in the range [0, ${UINT_MAX}]`);
    }
    bucket.average = unsigned(changes[name] ?? bucket.average);
    bucket.burst = unsigned(changes[`${name}-max`] ?? bucket.burst);
    bucket.burstSeconds = unsigned(length ?? bucket.burstSeconds);
  }
  config.requestBytes = unsigned(changes["iops-size"] ?? config.requestBytes);
  check(config);
  return config;
}

function check(config: ThrottleConfig): void {
  const { buckets } = config;
  const conflict = (kind: "bps" | "iops", what: "average" | "burst"): boolean =>
    buckets[`${kind}-total`][what] > 0 &&
    (buckets[`${kind}-read`][what] > 0 || buckets[`${kind}-write`][what] > 0);
  if (
    conflict("bps", "average") ||
    conflict("iops", "average") ||
    conflict("bps", "burst") ||
    conflict("iops", "burst")
  ) {
    fail("bps/iops/max total values and read/write values cannot be used at the same time");
  }
  const counts = (["iops-total", "iops-read", "iops-write"] as const).some(
    (name) => buckets[name].average > 0,
  );
  if (config.requestBytes > 0 && !counts) fail("iops size requires an iops value to be set");
  for (const name of throttleBuckets) checkBucket(buckets[name]);
}

function checkBucket({ average, burst, burstSeconds }: BucketConfig): void {
  if (average > MAX_VALUE || burst > MAX_VALUE) fail(`bps/iops/max values must be within [0, ${MAX_VALUE}]`);
  if (burstSeconds === 0) fail("the burst length cannot be 0");
  if (burstSeconds > 1 && burst === 0) fail("burst length set without burst rate");
  if (burst > 0 && burstSeconds > MAX_VALUE / burst) fail("burst length too high for this burst rate");
  if (burst > 0 && average === 0) fail("bps_max/iops_max require corresponding bps/iops values");
  if (burst > 0 && burst < average) fail("bps_max/iops_max cannot be lower than bps/iops");
}

/** All nineteen limits by wire name. */
export function limitsOf(config: ThrottleConfig): Required<ThrottleLimits> {
  const limits: ThrottleLimits = { "iops-size": config.requestBytes };
  for (const name of throttleBuckets) {
    const { average, burst, burstSeconds } = config.buckets[name];
    limits[name] = average;
    limits[`${name}-max`] = burst;
    limits[`${name}-max-length`] = burstSeconds;
  }
  return limits as Required<ThrottleLimits>;
}

/** The names of all limits. */
export const limitNames: readonly (keyof ThrottleLimits)[] = Object.keys(
  limitsOf(unlimited()),
) as (keyof ThrottleLimits)[];

const propertyNames: ReadonlySet<string> = new Set(limitNames);

/**
 * The limits out of the properties of `object-add qom-type=throttle-group`: the struct `limits` and, over it, the
 * single `x-…` properties. Throws EINVAL.
 */
export function limitsFromProperties(properties: Readonly<Record<string, unknown>>): ThrottleLimits {
  const limits: Record<string, number> = {};
  const given = properties["limits"];
  if (given !== undefined) {
    if (typeof given !== "object" || given === null)
      fail("Invalid parameter type for 'limits', expected: object");
    for (const [name, value] of Object.entries(given)) {
      if (!propertyNames.has(name)) fail(`Parameter 'limits.${name}' is unexpected`);
      limits[name] = integer(`limits.${name}`, value);
    }
  }
  for (const [name, value] of Object.entries(properties)) {
    if (!name.startsWith("x-")) continue;
    if (!propertyNames.has(name.slice(2))) fail(`Parameter '${name}' is unexpected`);
    const number = integer(name, value);
    if (number < 0) fail("Property values cannot be negative");
    if (name.endsWith("-max-length") && number > UINT_MAX) {
      fail(`${name} value must be in the range [0, ${UINT_MAX}]`);
    }
    limits[name.slice(2)] = number;
  }
  return limits;
}

function integer(name: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    fail(`Invalid parameter type for '${name}', expected: integer`);
  }
  return value;
}
