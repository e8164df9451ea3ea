/**
 * Histograms of times: HDR histograms with three significant digits, from a nanosecond to an hour, that can be added up and
 * exchanged (V2 encoding). Beside its count each bucket keeps the largest time in it, so that a percentile is a time that was
 * measured and no bucket's border.
 *
 * Invariants: times are whole nanoseconds >= 0; what is beyond an hour counts as an hour. Buckets lie in pages, of which there are those
 * that hold anything: most times of a run are alike.
 * Source: the HdrHistogram project's description of its layout and of the V2 encoding.
 */
import { fromBase64, toBase64, storedZlib, storedContent } from "./zlib.ts";
import { WorkloadError } from "../model/plan.ts";

const HALF = 1024;
const HALF_BITS = 10;
/** Buckets of a page. */
const PAGE = 32;
/** An hour, ns. */
const MOST = 3600e9;
const DIGITS = 3;

/** The bucket of a time. */
export function bucketOf(ns: number): number {
  if (ns < 2 * HALF) return ns;
  const exponent = 31 - Math.clz32(ns >= 2 ** 31 ? Math.floor(ns / 2 ** 31) : ns) + (ns >= 2 ** 31 ? 31 : 0);
  const shift = exponent - HALF_BITS;
  return shift * HALF + Math.floor(ns / 2 ** shift);
}

/** The largest time of a bucket. */
export function endOfBucket(bucket: number): number {
  if (bucket < 2 * HALF) return bucket;
  const shift = Math.floor(bucket / HALF) - 1;
  return (bucket - shift * HALF + 1) * 2 ** shift - 1;
}

/** What results tell of a histogram, ns. */
export interface Latencies {
  readonly count: number;
  readonly minNs: number;
  readonly maxNs: number;
  readonly meanNs: number;
  readonly deviationNs: number;
  /** By percent. */
  readonly percentilesNs: Readonly<Record<string, number>>;
  /** V2, deflated, in base 64. */
  readonly hdr: string;
}

/** The percentiles of results. */
export const percentiles: readonly number[] = [1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99];

/** A run of buckets. */
interface Page {
  readonly counts: Float64Array;
  readonly largest: Float64Array;
}

/** One histogram. */
export class Histogram {
  readonly #pages: (Page | undefined)[] = [];
  #count = 0;
  #sum = 0;
  #squares = 0;
  #min = Infinity;
  #max = 0;

  get count(): number {
    return this.#count;
  }

  /** Sum of all times, ns. */
  get sumNs(): number {
    return this.#sum;
  }

  /** Counts a time. */
  record(ns: number, times = 1): void {
    const time = Math.min(Math.max(0, ns), MOST);
    this.#enter(bucketOf(time), times, time);
    this.#count += times;
    this.#sum += time * times;
    this.#squares += (time / 1e3) * (time / 1e3) * times;
    this.#min = Math.min(this.#min, time);
    this.#max = Math.max(this.#max, time);
  }

  /** Adds another one up. */
  add(other: Histogram): void {
    for (const { bucket, count, largestNs } of other.buckets()) this.#enter(bucket, count, largestNs);
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#squares += other.#squares;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
  }

  #enter(bucket: number, count: number, largestNs: number): void {
    const number = Math.floor(bucket / PAGE);
    const page = (this.#pages[number] ??= {
      counts: new Float64Array(PAGE),
      largest: new Float64Array(PAGE),
    });
    const at = bucket % PAGE;
    page.counts[at]! += count;
    if (largestNs > page.largest[at]!) page.largest[at] = largestNs;
  }

  /** The buckets that hold anything, in order. */
  *buckets(): Generator<{ bucket: number; count: number; largestNs: number }> {
    for (const [number, page] of this.#pages.entries()) {
      if (!page) continue;
      const { counts, largest } = page;
      for (let at = 0; at < PAGE; at++)
        if (counts[at]! > 0)
          yield { bucket: number * PAGE + at, count: counts[at]!, largestNs: largest[at]! };
    }
  }

  /** The smallest measured time that is not below `percent` of all; 0 of none. */
  percentile(percent: number): number {
    return this.#percentiles([percent])[0]!;
  }

  /** The same for several, in ascending order, by one look at all buckets. */
  #percentiles(percents: readonly number[]): number[] {
    const found: number[] = [];
    let sum = 0;
    for (const { count, largestNs } of this.buckets()) {
      sum += count;
      while (found.length < percents.length && sum >= this.#rank(percents[found.length]!))
        found.push(largestNs);
    }
    return percents.map((_percent, i) => found[i] ?? 0);
  }

  /** How many times are not above a percentile. */
  #rank(percent: number): number {
    // The share is meant in decimals: 99.9 % of 1000 are 999.
    return Math.max(1, Math.ceil((percent * this.#count) / 100 - 1e-9 * this.#count));
  }

  /** What results tell. */
  summary(): Latencies {
    const n = this.#count;
    const mean = n === 0 ? 0 : this.#sum / n;
    const values = this.#percentiles(percentiles);
    const variance = n === 0 ? 0 : Math.max(0, this.#squares / n - (mean / 1e3) * (mean / 1e3));
    return {
      count: n,
      minNs: n === 0 ? 0 : this.#min,
      maxNs: this.#max,
      meanNs: mean,
      deviationNs: Math.sqrt(variance) * 1e3,
      percentilesNs: Object.fromEntries(percentiles.map((percent, i) => [`p${percent}`, values[i]!])),
      hdr: this.encode(),
    };
  }

  /** The V2 encoding, deflated (stored blocks: the same bytes from every engine), in base 64. */
  encode(): string {
    const payload = runs(this.buckets(), bucketOf(this.#max));
    const bytes = new Uint8Array(40 + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, V2_COOKIE);
    view.setUint32(4, payload.length);
    view.setUint32(12, DIGITS);
    view.setUint32(20, 1);
    view.setUint32(24, Math.floor(MOST / 2 ** 32));
    view.setUint32(28, MOST % 2 ** 32);
    view.setFloat64(32, 1);
    bytes.set(payload, 40);
    const deflated = storedZlib(bytes);
    const whole = new Uint8Array(8 + deflated.length);
    new DataView(whole.buffer).setUint32(0, V2_DEFLATED_COOKIE);
    new DataView(whole.buffer).setUint32(4, deflated.length);
    whole.set(deflated, 8);
    return toBase64(whole);
  }

  /** Reads what encode() wrote. Throws WorkloadError. */
  static decode(text: string): Histogram {
    const whole = fromBase64(text);
    const view = new DataView(whole.buffer);
    if (whole.length < 48 || view.getUint32(0) !== V2_DEFLATED_COOKIE) throw notOurs();
    const bytes = storedContent(whole.subarray(8));
    if (!bytes || new DataView(bytes.buffer, bytes.byteOffset).getUint32(0) !== V2_COOKIE) throw notOurs();
    const made = new Histogram();
    for (const { bucket, count } of readRuns(bytes.subarray(40))) made.record(endOfBucket(bucket), count);
    return made;
  }
}

const V2_COOKIE = 0x1c849303 | 0x10;
const V2_DEFLATED_COOKIE = 0x1c849304 | 0x10;

function notOurs(): WorkloadError {
  return new WorkloadError("the histogram is none of Blockwright's (V2, stored)");
}

/** Counts as ZigZag numbers of 7 bits a byte, up to the last bucket; zeroes are told as the negative of how many there are. */
function runs(buckets: Iterable<{ bucket: number; count: number }>, last: number): Uint8Array {
  const bytes: number[] = [];
  let next = 0;
  for (const { bucket, count } of buckets) {
    if (bucket > next) writeNumber(bytes, 2 * (bucket - next) - 1);
    writeNumber(bytes, 2 * count);
    next = bucket + 1;
  }
  if (next <= last) writeNumber(bytes, 2 * (last + 1 - next) - 1);
  return Uint8Array.from(bytes);
}

/** A ZigZag number, least significant bits first; below 2^53. */
function writeNumber(bytes: number[], value: number): void {
  let left = value;
  for (; left >= 128; left = Math.floor(left / 128)) bytes.push((left % 128) | 128);
  bytes.push(left);
}

function* readRuns(bytes: Uint8Array): Generator<{ bucket: number; count: number }> {
  let bucket = 0;
  for (let at = 0; at < bytes.length;) {
    let value = 0;
    for (let scale = 1, more = true; more && at < bytes.length; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      more = byte >= 128;
    }
    if (value % 2 === 1) bucket += (value + 1) / 2;
    else yield { bucket: bucket++, count: value / 2 };
  }
}
