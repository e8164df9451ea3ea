/** What is shown of a server's jobs: one row of query-jobs, and of query-block-jobs where it is there too. */
import type { QmpClient } from "../../../node.ts";
import { formatBytes, formatRate } from "../../units.ts";

/** A job. Numbers are bytes, for jobs that copy. */
export interface JobRow {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  readonly offset: number;
  readonly length: number;
  /** Bytes per second; 0: no limit. Undefined for jobs that have none. */
  readonly speed?: number;
  readonly ioStatus?: string;
  /** Why it has failed. */
  readonly error?: string;
}

/** All jobs, in the server's order. */
export async function jobRows(client: QmpClient): Promise<JobRow[]> {
  const [jobs, blockJobs] = [await client.execute("query-jobs"), await client.execute("query-block-jobs")];
  return jobs.map((job) => {
    const block = blockJobs.find(({ device }) => device === job.id);
    return {
      id: job.id,
      type: job.type,
      status: job.status,
      offset: job["current-progress"],
      length: job["total-progress"],
      ...(block ? { speed: block.speed, ioStatus: block["io-status"] } : {}),
      ...(job.error === undefined ? {} : { error: job.error }),
    };
  });
}

const heads = ["ID", "TYPE", "STATUS", "DONE", "SPEED", "I/O"];

/** A line for each job below the names of the columns. */
export function jobTable(rows: readonly JobRow[]): string {
  const cells = [heads, ...rows.map((row) => cellsOf(row))];
  const widths = heads.map((_, at) => Math.max(...cells.map((line) => line[at]!.length)));
  return cells
    .map(
      (line) =>
        `${line
          .map((cell, at) => cell.padEnd(widths[at]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

function cellsOf({ id, type, status, offset, length, speed, ioStatus, error }: JobRow): string[] {
  const percent = length > 0 ? `${((100 * offset) / length).toFixed(1)}%` : "-";
  const limit = speed === undefined ? "-" : speed === 0 ? "no limit" : formatRate(speed);
  return [id, type, status, `${percent} of ${formatBytes(length)}`, limit, error ?? ioStatus ?? "-"];
}
