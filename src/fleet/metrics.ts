/** How a queue stands, as OpenMetrics text. */
import type { FleetCounts, JobRow } from "./queue.ts";

/** The exposition; with rows also bytes and attempts over all jobs. */
export function openMetrics(counts: FleetCounts, rows: readonly JobRow[]): string {
  const lines = [
    "# HELP blockwright_fleet_jobs Jobs by state.",
    "# TYPE blockwright_fleet_jobs gauge",
    ...Object.entries(counts).map(([state, count]) => `blockwright_fleet_jobs{state="${state}"} ${count}`),
  ];
  if (rows.length > 0) {
    const sum = (of: (row: JobRow) => number): number => rows.reduce((total, row) => total + of(row), 0);
    lines.push(
      "# HELP blockwright_fleet_moved_bytes Bytes that the jobs of the queue have moved.",
      "# TYPE blockwright_fleet_moved_bytes gauge",
      "# UNIT blockwright_fleet_moved_bytes bytes",
      `blockwright_fleet_moved_bytes ${sum(({ bytes }) => bytes)}`,
      "# HELP blockwright_fleet_attempts Attempts of the jobs of the queue.",
      "# TYPE blockwright_fleet_attempts gauge",
      `blockwright_fleet_attempts ${sum(({ attempts }) => attempts)}`,
    );
  }
  return `${lines.join("\n")}\n# EOF\n`;
}
