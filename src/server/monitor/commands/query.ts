/**
 * The block queries over an engine: devices, the graph, statistics; what a node says of itself is block/query.ts.
 * Source: QAPI block-core schema, QEMU 7.2.
 */
import { filterOrCow, skipFilters } from "../../../block/model/chain.ts";
import type { Child } from "../../../block/model/node.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import { deviceInfo } from "../../../block/query.ts";
import { Perm } from "../../../block/model/permissions.ts";
import type { Engine } from "../../../machine/engine.ts";
import type { ReturnOf, TypeOf } from "../../../wire/qapi/index.ts";
import type { CommandHandlers } from "../registry.ts";

async function queryBlock(engine: Engine): Promise<ReturnOf<"query-block">> {
  const rows: TypeOf<"BlockInfo">[] = [];
  for (const device of engine.machine.devices.values()) {
    const { node } = device.backend;
    rows.push({
      device: device.name,
      type: "unknown",
      removable: false,
      locked: false,
      ...(node ? { inserted: await deviceInfo(node) } : {}),
      ...(device.iostatusEnabled ? { "io-status": device.ioStatus } : {}),
    });
  }
  return rows;
}

const permissionWire: readonly (readonly [number, TypeOf<"BlockPermission">])[] = [
  [Perm.resize, "resize"],
  [Perm.writeUnchanged, "write-unchanged"],
  [Perm.write, "write"],
  [Perm.consistentRead, "consistent-read"],
];

function permissionList(perm: number): TypeOf<"BlockPermission">[] {
  return permissionWire.filter(([bit]) => (perm & bit) !== 0).map(([, name]) => name);
}

/** All nodes, jobs and backends with the edges between them. */
function queryGraph(engine: Engine): TypeOf<"XDbgBlockGraph"> {
  const ids = new Map<object, number>();
  const idOf = (thing: object): number => {
    const known = ids.get(thing);
    if (known !== undefined) return known;
    ids.set(thing, ids.size + 1);
    return ids.size;
  };
  const nodes: TypeOf<"XDbgBlockGraphNode">[] = [];
  const edges = new Set<Child>();
  for (const backend of engine.graph.backends.values()) {
    nodes.push({ id: idOf(backend), type: "block-backend", name: backend.name });
  }
  for (const job of engine.jobs.jobs) {
    if (job.isBlockJob) nodes.push({ id: idOf(job), type: "block-job", name: job.id });
  }
  for (const node of engine.graph.nodes) {
    nodes.push({ id: idOf(node), type: "block-driver", name: node.name });
    for (const edge of node.parents) edges.add(edge);
  }
  for (const edge of edges) {
    if (!ids.has(edge.parent)) nodes.push({ id: idOf(edge.parent), type: "block-backend", name: "" });
  }
  return { nodes, edges: [...edges].map((edge) => edgeRow(edge, idOf)) };
}

function edgeRow(edge: Child, idOf: (thing: object) => number): TypeOf<"XDbgBlockGraphEdge"> {
  return {
    parent: idOf(edge.parent),
    child: idOf(edge.node),
    name: edge.name,
    perm: permissionList(edge.perm),
    "shared-perm": permissionList(edge.shared),
  };
}

/** The statistics of nobody: a drive without a medium. */
export const noStats: TypeOf<"BlockDeviceStats"> = {
  rd_bytes: 0,
  wr_bytes: 0,
  unmap_bytes: 0,
  rd_operations: 0,
  wr_operations: 0,
  flush_operations: 0,
  unmap_operations: 0,
  rd_total_time_ns: 0,
  wr_total_time_ns: 0,
  flush_total_time_ns: 0,
  unmap_total_time_ns: 0,
  wr_highest_offset: 0,
  rd_merged: 0,
  wr_merged: 0,
  unmap_merged: 0,
  failed_rd_operations: 0,
  failed_wr_operations: 0,
  failed_flush_operations: 0,
  failed_unmap_operations: 0,
  invalid_rd_operations: 0,
  invalid_wr_operations: 0,
  invalid_flush_operations: 0,
  invalid_unmap_operations: 0,
  account_invalid: false,
  account_failed: false,
  timed_stats: [],
};

/** The statistics of a node and of what lies below it. */
export function nodeStats(node: BlockNode): TypeOf<"BlockStats"> {
  const below = (node.primary ?? node.filtered)?.node;
  const backing = skipFilters(node) === node ? filterOrCow(node) : undefined;
  return {
    "node-name": node.name,
    stats: { ...noStats, wr_highest_offset: node.highestWrite },
    ...(below ? { parent: nodeStats(below) } : {}),
    ...(backing && backing !== below ? { backing: nodeStats(backing) } : {}),
  };
}

/** Handlers. */
export const queryCommands: CommandHandlers<Engine> = {
  "query-named-block-nodes": (args, { engine }) =>
    Promise.all(engine.graph.nodes.map((node) => deviceInfo(node, args.flat ?? false))),
  "query-block": (_args, { engine }) => queryBlock(engine),
  "x-debug-query-block-graph": (_args, { engine }) => queryGraph(engine),
  "query-blockstats": (args, { engine }) => {
    if (args["query-nodes"]) return engine.graph.nodes.map(nodeStats);
    return [...engine.machine.devices.values()].flatMap((device) => {
      const { node } = device.backend;
      return node ? [{ device: device.name, ...nodeStats(node) }] : [];
    });
  },
};
