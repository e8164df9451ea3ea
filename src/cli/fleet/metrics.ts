/** How a queue stands, as OpenMetrics text. */
import type { FleetCounts, JobRow } from "../../fleet/queue.ts";
import { type Family, openMetrics } from "../../server/web/open-metrics.ts";

/** The exposition; with rows also bytes and attempts over all jobs. */
export function fleetMetrics(counts: FleetCounts, rows: readonly JobRow[]): string {
  const states = Object.entries(counts).map(([state, value]) => ({ labels: { state }, value }));
  const sum = (of: (row: JobRow) => number): Pick<Family, "type" | "samples"> => ({
    type: "gauge",
    samples: [{ labels: {}, value: rows.reduce((total, row) => total + of(row), 0) }],
  });
  const families: Family[] = [
    { name: "blockwright_fleet_jobs", type: "gauge", help: "Jobs by state.", samples: states },
    {
      ...{ name: "blockwright_fleet_moved_bytes", unit: "bytes" },
      help: "Bytes that the jobs of the queue have moved.",
      ...sum(({ bytes }) => bytes),
    },
    {
      ...{ name: "blockwright_fleet_attempts", help: "Attempts of the jobs of the queue." },
      ...sum(({ attempts }) => attempts),
    },
  ];
  return openMetrics(rows.length > 0 ? families : families.slice(0, 1));
}
