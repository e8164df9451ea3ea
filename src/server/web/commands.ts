/**
 * The commands that a dashboard's monitor has beside the daemon's.
 */
import { CommandError } from "../../base/errors.ts";
import { exportsOf } from "../../export/exports.ts";
import { BlockJob } from "../../job/core/block-job.ts";
import type { Job } from "../../job/core/job.ts";
import { acceptsVerb, jobVerbs } from "../../job/core/verbs.ts";
import type { Engine } from "../../machine/engine.ts";
import type { DashboardArgsOf, DashboardReturnOf } from "../../wire/qapi/dashboard.ts";
import { cellMap } from "./map.ts";

interface Context {
  readonly engine: Engine;
}

type JobRow = DashboardReturnOf<"x-blockwright-query-jobs">[number];

/** Cells of a map where the client names no number, and at most. */
const CELLS = 4096;
const MOST_CELLS = 65_536;

function jobRow(job: Job): JobRow {
  const row: JobRow = {
    id: job.id,
    "user-paused": job.userPaused,
    verbs: jobVerbs.filter((verb) => isOpen(job, verb)),
  };
  if (!(job instanceof BlockJob)) return row;
  return { ...row, ...policiesOf(job), ...failureOf(job) };
}

/** What the state allows, and would change something. */
function isOpen(job: Job, verb: (typeof jobVerbs)[number]): boolean {
  if (!acceptsVerb(job.status, verb)) return false;
  if (verb === "pause") return !job.userPaused;
  if (verb === "resume") return job.userPaused;
  return verb !== "set-speed" || job.isBlockJob;
}

function policiesOf(job: BlockJob): Pick<JobRow, "on-source-error" | "on-target-error"> {
  const { source, target } = job.errorPolicies;
  return {
    ...(source === undefined ? {} : { "on-source-error": source }),
    ...(target === undefined ? {} : { "on-target-error": target }),
  };
}

function failureOf({ lastFailure }: BlockJob): Pick<JobRow, "failure"> {
  if (!lastFailure) return {};
  const { operation, action, code, node, offset, bytes } = lastFailure;
  return {
    failure: {
      operation,
      action,
      errno: code,
      ...(node === undefined ? {} : { "node-name": node }),
      ...(offset === undefined ? {} : { offset }),
      ...(bytes === undefined ? {} : { bytes }),
    },
  };
}

/** Handlers. */
export const dashboardHandlers = {
  "x-blockwright-query-jobs": (_args: unknown, { engine }: Context) => engine.jobs.jobs.map(jobRow),
  "x-blockwright-query-exports": (
    _args: unknown,
    { engine }: Context,
  ): DashboardReturnOf<"x-blockwright-query-exports"> =>
    exportsOf(engine).all.map(({ id, type, backend, service, shuttingDown }) => ({
      id,
      type,
      "node-name": backend.node?.name ?? "",
      clients: service.users,
      "shutting-down": shuttingDown,
    })),
  "x-blockwright-query-map": (args: DashboardArgsOf<"x-blockwright-query-map">, { engine }: Context) => {
    const { "max-cells": cells = CELLS } = args;
    if (cells < 1 || cells > MOST_CELLS)
      throw new CommandError(`Parameter 'max-cells' expects a number from 1 to ${MOST_CELLS}`);
    return cellMap(engine.graph.nodeOrDevice({ node: args["node-name"] }), cells);
  },
};
