/**
 * What an engine tells those who look on: every event of its jobs, and every error of theirs and of guests, on the channels of
 * the Host. (Requests are told by their nodes.)
 */
import type { HostDiagnostics } from "../base/host.ts";
import type { QmpEvent } from "../wire/qapi/index.ts";
import type { Engine } from "../machine/engine.ts";
import { BlockJob } from "../job/core/block-job.ts";

const ERRORS: ReadonlySet<QmpEvent["event"]> = new Set([
  "BLOCK_JOB_ERROR",
  "BLOCK_IO_ERROR",
  "BLOCK_IMAGE_CORRUPTED",
] as const);

/** Publishes the engine's events on `blockwright:job` and `blockwright:error`, while somebody listens. */
export function tellWatchers({ graph, jobs }: Engine, diagnostics: HostDiagnostics): void {
  const ofJobs = diagnostics.channel?.("blockwright:job");
  const ofErrors = diagnostics.channel?.("blockwright:error");
  if (!ofJobs || !ofErrors) return;
  graph.events.subscribe(({ event, data }) => {
    const isOfJob = event === "JOB_STATUS_CHANGE" || event.startsWith("BLOCK_JOB_");
    if (isOfJob && ofJobs.hasSubscribers) ofJobs.publish({ event, data });
    if (!ERRORS.has(event) || !ofErrors.hasSubscribers) return;
    const job = "device" in data ? jobs.find(data.device) : undefined;
    const failure = event === "BLOCK_JOB_ERROR" && job instanceof BlockJob ? job.lastFailure : undefined;
    ofErrors.publish({ event, data, ...(failure ? { failure } : {}) });
  });
}
