/**
 * What has been asked of a node and of guests' disks so far, for programs and for Prometheus. Source of the text's form:
 * OpenMetrics 1.0.
 */
import { type Account, type AccountedKind, accountedKinds } from "../block/model/node.ts";
import type { Engine } from "../machine/engine.ts";
import type { Node } from "./node.ts";
import { checkArgument, checkNodes } from "./options.ts";

/** The counters of one kind of request. */
export interface OperationStats {
  /** Requests that ended well, and the bytes that they covered. */
  operations: number;
  bytes: number;
  failed: number;
  /** Requests that were refused, since they lay outside of the disk. Of guests' disks only. */
  invalid: number;
  /** Time that requests took together, ms. Of a node: as far as they had to be waited for. */
  timeMs: number;
}

/** The counters of a node since it was opened. Writing zeroes is a write; a discard counts where it is honoured. */
export interface NodeStats extends Readonly<Record<AccountedKind, OperationStats>> {
  /** End of the highest write, bytes. */
  highestWrite: number;
}

/**
 * What all users of a node have asked of it since it was opened: handles, guests, jobs and the nodes above. For each layer of a
 * disk ask a handle of its own, or query-blockstats of QMP.
 */
export function stats(node: Pick<Node, "blockNode">): NodeStats {
  checkNodes({ node });
  const { account, highestWrite } = node.blockNode;
  const of = (kind: AccountedKind): OperationStats => {
    const { operations, bytes, failed, invalid, timeMs } = account[kind];
    return { operations, bytes, failed, invalid, timeMs };
  };
  return { read: of("read"), write: of("write"), flush: of("flush"), unmap: of("unmap"), highestWrite };
}

/** A family of counters: its name, what it is, and which number of a kind. */
const families: readonly (readonly [name: string, help: string, valueOf: (of: OperationStats) => number])[] =
  [
    ["operations", "Requests that ended well", ({ operations }) => operations],
    ["bytes", "Bytes of requests that ended well", ({ bytes }) => bytes],
    ["failed", "Requests that failed", ({ failed }) => failed],
    ["seconds", "Time that requests took together", ({ timeMs }) => timeMs / 1000],
  ];

type Labelled = readonly [labels: string, account: Account];

const escaped = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

function counters(prefix: string, rows: readonly Labelled[]): string[] {
  return families.flatMap(([name, help, valueOf]) => {
    const family = `${prefix}_${name}`;
    const samples = rows.flatMap(([labels, account]) =>
      accountedKinds.map(
        (kind) => `${family}_total{${labels},operation="${kind}"} ${valueOf(account[kind])}`,
      ),
    );
    return [`# TYPE ${family} counter`, `# HELP ${family} ${help}.`, ...samples];
  });
}

function jobGauges({ jobs }: Engine): string[] {
  const gauge = (
    name: string,
    help: string,
    valueOf: (job: { offset: number; length: number }) => number,
  ): string[] => [
    `# TYPE ${name} gauge`,
    `# HELP ${name} ${help}.`,
    ...jobs.jobs.map(
      (job) => `${name}{job="${escaped(job.id)}",type="${job.type}",status="${job.status}"} ${valueOf(job)}`,
    ),
  ];
  return [
    ...gauge("blockwright_job_offset_bytes", "Progress of a job", ({ offset }) => offset),
    ...gauge("blockwright_job_length_bytes", "Progress at which a job is done", ({ length }) => length),
  ];
}

/**
 * The counters of an engine's nodes and guests' disks, and its jobs, as OpenMetrics text (content type
 * `application/openmetrics-text; version=1.0.0; charset=utf-8`).
 */
export function metrics(engine: Engine): string {
  checkArgument("engine", engine, "Engine");
  const nodes = engine.graph.nodes.map(({ name, type, account }): Labelled => [
    `node="${escaped(name)}",driver="${escaped(type.name)}"`,
    account,
  ]);
  const devices = [...engine.machine.devices.values()].map(({ name, account }): Labelled => [
    `device="${escaped(name)}"`,
    account,
  ]);
  const lines = [
    ...counters("blockwright_node", nodes),
    ...counters("blockwright_device", devices),
    ...jobGauges(engine),
    "# EOF",
  ];
  return `${lines.join("\n")}\n`;
}
