/**
 * What an engine measures, as families of OpenMetrics: nodes, guest devices, jobs, exports and their clients.
 */
import { accountStats } from "../../block/stats.ts";
import type { Account } from "../../block/model/node.ts";
import { exportsOf } from "../../export/exports.ts";
import { BlockJob } from "../../job/core/block-job.ts";
import type { Engine } from "../../machine/engine.ts";
import { typeTable } from "../../wire/qapi/index.ts";
import type { Family, Sample } from "./open-metrics.ts";

type Labels = Readonly<Record<string, string>>;
type Stats = ReturnType<typeof accountStats>;

/** Who does I/O, and what it has done. */
interface Doer {
  readonly labels: Labels;
  readonly stats: Stats;
}

const NANOSECONDS = 1e9;
const IO_STATES = typeTable.BlockDeviceIoStatus.values;
const JOB_STATES = typeTable.JobStatus.values.filter((state) => state !== "undefined" && state !== "null");
const KINDS = ["rd", "wr", "flush", "unmap"] as const;
const WORDS = { rd: "read", wr: "write", flush: "flush", unmap: "discard" } as const;

/** All families of an engine. `version`: the program's. */
export function metricsOf(engine: Engine, version: string): Family[] {
  return [
    {
      name: "blockwright_build",
      type: "info",
      help: "The program.",
      samples: [{ labels: { version }, value: 1 }],
    },
    ...nodeFamilies(engine),
    ...ioFamilies("node", nodeDoers(engine)),
    ...ioFamilies("device", deviceDoers(engine)),
    ...jobFamilies(engine),
    ...exportFamilies(engine),
  ];
}

function nodeFamilies({ graph }: Engine): Family[] {
  const ofNodes = (value: (node: (typeof graph.nodes)[number]) => number): Sample[] =>
    graph.nodes.map((node) => ({ labels: { node: node.name, driver: node.type.name }, value: value(node) }));
  return [
    {
      name: "blockwright_node_size_bytes",
      type: "gauge",
      unit: "bytes",
      help: "Length of a node's disk.",
      samples: ofNodes(({ length }) => length),
    },
    {
      name: "blockwright_node_read_only",
      type: "gauge",
      help: "Whether a node is read only.",
      samples: ofNodes(({ readOnly }) => Number(readOnly)),
    },
    {
      name: "blockwright_node_requests_in_flight",
      type: "gauge",
      help: "Requests of a node that are under way.",
      samples: ofNodes(({ inFlight }) => inFlight),
    },
    {
      name: "blockwright_node_highest_write_bytes",
      type: "gauge",
      unit: "bytes",
      help: "End of the highest write to a node.",
      samples: ofNodes(({ highestWrite }) => highestWrite),
    },
  ];
}

function nodeDoers({ graph }: Engine): Doer[] {
  return graph.nodes.map((node) => doer({ node: node.name, driver: node.type.name }, node.account));
}

function deviceDoers({ machine }: Engine): Doer[] {
  return [...machine.devices.values()].map(({ name, account }) => doer({ device: name }, account));
}

function doer(labels: Labels, account: Account): Doer {
  return { labels, stats: accountStats(account, 0) };
}

/** Counters of I/O by operation. */
function ioFamilies(what: "node" | "device", doers: readonly Doer[]): Family[] {
  const counter = (
    name: string,
    { help, unit, value }: { help: string; unit?: string; value: (stats: Stats, kind: Kind) => number },
  ): Family => ({
    name: `blockwright_${what}_${name}`,
    type: "counter",
    ...(unit === undefined ? {} : { unit }),
    help,
    samples: doers.flatMap(({ labels, stats }) =>
      KINDS.filter((kind) => unit !== "bytes" || kind !== "flush").map((kind) => ({
        labels: { ...labels, operation: WORDS[kind] },
        value: value(stats, kind),
      })),
    ),
  });
  return [
    counter("operations", {
      help: `Requests that a ${what} has answered.`,
      value: (stats, kind) => stats[`${kind}_operations`],
    }),
    counter("failures", {
      help: `Requests of a ${what} that have failed.`,
      value: (stats, kind) => stats[`failed_${kind}_operations`],
    }),
    counter("io_bytes", {
      help: `Bytes of a ${what}'s requests.`,
      unit: "bytes",
      value: (stats, kind) => (kind === "flush" ? 0 : stats[`${kind}_bytes`]),
    }),
    counter("time_seconds", {
      help: `Time that a ${what}'s requests took, together.`,
      unit: "seconds",
      value: (stats, kind) => stats[`${kind}_total_time_ns`] / NANOSECONDS,
    }),
  ];
}

type Kind = (typeof KINDS)[number];

function jobFamilies({ jobs }: Engine): Family[] {
  const all = jobs.jobs.map((job) => ({ job, labels: { job: job.id, type: job.type } }));
  const block = all.flatMap(({ job, labels }) => (job instanceof BlockJob ? [{ job, labels }] : []));
  const states = (name: string, rows: readonly { labels: Labels; now: string; of: readonly string[] }[]) =>
    rows.flatMap(({ labels, now, of }) =>
      of.map((state) => ({ labels: { ...labels, [name]: state }, value: Number(state === now) })),
    );
  return [
    {
      name: "blockwright_job_status",
      type: "stateset",
      help: "The state of a job.",
      samples: states(
        "blockwright_job_status",
        all.map(({ job, labels }) => ({ labels, now: job.status, of: JOB_STATES })),
      ),
    },
    {
      name: "blockwright_job_io_status",
      type: "stateset",
      help: "Whether an error has stopped a job.",
      samples: states(
        "blockwright_job_io_status",
        block.map(({ job, labels }) => ({ labels, now: job.ioStatus, of: IO_STATES })),
      ),
    },
    {
      name: "blockwright_job_progress",
      type: "gauge",
      help: "What a job has done, bytes for jobs that copy.",
      samples: all.map(({ job, labels }) => ({ labels, value: job.offset })),
    },
    {
      name: "blockwright_job_length",
      type: "gauge",
      help: "What a job is to do in all, in the unit of its progress.",
      samples: all.map(({ job, labels }) => ({ labels, value: job.length })),
    },
    {
      name: "blockwright_job_speed_limit",
      type: "gauge",
      help: "The most bytes that a job copies in a second; 0: no limit.",
      samples: block.map(({ job, labels }) => ({ labels, value: job.speed })),
    },
  ];
}

function exportFamilies(engine: Engine): Family[] {
  const rows = exportsOf(engine).all.map((one) => ({
    labels: { export: one.id, type: one.type, node: one.backend.node?.name ?? "" },
    value: one.service.users,
  }));
  return [
    {
      name: "blockwright_export_clients",
      type: "gauge",
      help: "Clients of an export.",
      samples: rows,
    },
  ];
}
