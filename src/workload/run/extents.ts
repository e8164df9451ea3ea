/** Which part of the disk each worker has, how long a disk must be for them, and what of them depends on time. */
import { type Region, type WorkerPlan, writes } from "../model/plan.ts";
import type { Extent } from "../stream/requests.ts";

/** Length of a disk that nothing is said about, bytes. */
const DEFAULT_BYTES = 2 ** 30;

/** How long a disk must be, bytes. */
export function neededBytes(workers: readonly WorkerPlan[]): number {
  const ends = workers.map(({ region, until, job }) => {
    if (job) return 0;
    const bytes = region.bytes ?? until.bytes;
    return bytes === undefined ? 0 : region.offset + bytes;
  });
  const most = Math.max(0, ...ends);
  // Whole blocks of every worker.
  return most === 0 ? DEFAULT_BYTES : Math.ceil(most / 4096) * 4096;
}

function startOf(region: Region, length: number, align: number): number {
  const start =
    region.offsetPercent === undefined ? region.offset : Math.floor((length * region.offsetPercent) / 100);
  return Math.floor(start / align) * align;
}

/** A worker's part of a disk of that length; what does not fit is cut, and told. */
export function extentOf(plan: WorkerPlan, length: number, note: (text: string) => void): Extent {
  const { region, align, name } = plan;
  const start = startOf(region, length, align);
  if (start >= length) {
    note(`${name}: its part begins beyond the disk of ${length} bytes: it has the whole disk`);
    return { offset: 0, bytes: length };
  }
  const wanted =
    region.percent === undefined ? region.bytes : Math.floor((length * region.percent) / 100 / align) * align;
  const left = length - start;
  if (wanted !== undefined && wanted > left)
    note(`${name}: its part of ${wanted} bytes is cut to ${left}, the end of the disk`);
  return { offset: start, bytes: Math.min(wanted ?? left, left) };
}

/** Whether requests of two workers, or two of one, may change the same bytes at once. */
export function mayCollide(workers: readonly WorkerPlan[]): boolean {
  const changing = workers.filter(writes);
  return changing.length > 1 || changing.some(({ depth }) => depth > 1);
}

/** Whether time ends a worker. */
export function endsByTime(workers: readonly WorkerPlan[], { until }: WorkerPlan): boolean {
  return until.durationNs !== undefined || (workers.length > 1 && workers.some(({ endsAll }) => endsAll));
}
