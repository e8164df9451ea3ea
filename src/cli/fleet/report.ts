/**
 * What the verb prints: counts, jobs, OpenMetrics. Data goes to stdout, progress and messages to stderr.
 */
import type { FleetCounts, FleetQueue, JobRow } from "../../fleet/queue.ts";
import { printable } from "../printable.ts";
import type { FleetFlags } from "../verbs/fleet/flags.ts";
import { fleetMetrics } from "./metrics.ts";

/** `3 queued, 1 running, 7 done, 0 failed`. */
export function countsText({ queued, running, done, failed }: FleetCounts): string {
  return `${queued} queued, ${running} running, ${done} done, ${failed} failed`;
}

function rowText({ id, state, attempts, worker, bytes, lastError, shards }: JobRow): string {
  const progress = shards ? ` (${shards.done} of ${shards.total} shards)` : "";
  const columns = [
    id,
    `${state}${progress}`,
    String(attempts),
    worker || "-",
    String(bytes),
    lastError || "-",
  ];
  return printable(columns.map((text) => text.replaceAll("\n", " ")).join("\t"));
}

/** Prints how the queue stands; answers the exit status: 1 where a job failed. */
export async function report(queue: FleetQueue, { json, jobs, metrics }: FleetFlags): Promise<number> {
  const counts = await queue.counts();
  const rows = jobs ? await queue.rows() : undefined;
  const write = (text: string): void => void process.stdout.write(`${text}\n`);
  if (metrics) process.stdout.write(fleetMetrics(counts, rows ?? []));
  else if (json) write(JSON.stringify(rows ? { ...counts, jobs: rows } : counts));
  else {
    write(countsText(counts));
    if (rows?.length) write("id\tstate\tattempts\tworker\tbytes\tlast error");
    for (const row of rows ?? []) write(rowText(row));
  }
  return counts.failed > 0 ? 1 : 0;
}

/** Shows on a terminal how far it is, once a second, until what it answers is called. */
export function showProgress(queue: FleetQueue): () => void {
  if (!process.stderr.isTTY) return () => undefined;
  const show = (): void =>
    void queue.counts().then(
      (counts) => process.stderr.write(`\r\x1b[K${countsText(counts)}`),
      () => undefined,
    );
  const timer = setInterval(show, 1000);
  return () => {
    clearInterval(timer);
    process.stderr.write("\r\x1b[K");
  };
}
