/**
 * The block queries over an engine: devices, the graph, statistics; what a node says of itself is block/query.ts.
 * Source: QAPI block-core schema, QEMU 7.2.
 */
import type { Child } from "../../../block/model/node.ts";
import { deviceInfo } from "../../../block/query.ts";
import { accountStats, chainStats, nodeStats } from "../../../block/stats.ts";
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

/** BlockStats of all nodes, the oldest first, unlike query-named-block-nodes. */
export function statsOfNodes({ graph }: Engine): TypeOf<"BlockStats">[] {
  return graph.nodes.toReversed().map((node) => nodeStats(node));
}

/** BlockStats of each device: what its guest has asked of it. */
function deviceStats({ machine, graph }: Engine): TypeOf<"BlockStats">[] {
  const nowMs = graph.host.clock.nowMs();
  return [...machine.devices.values()].flatMap(({ name, backend, account }) => {
    const { node } = backend;
    if (!node) return [];
    return [{ device: name, ...chainStats(node, accountStats(account, node.highestWrite, { nowMs })) }];
  });
}

/** Handlers. */
export const queryCommands: CommandHandlers<Engine> = {
  "query-named-block-nodes": (args, { engine }) =>
    Promise.all(engine.graph.nodes.map((node) => deviceInfo(node, args.flat ?? false))),
  "query-block": (_args, { engine }) => queryBlock(engine),
  "x-debug-query-block-graph": (_args, { engine }) => queryGraph(engine),
  "query-blockstats": (args, { engine }) => {
    if (args["query-nodes"]) return statsOfNodes(engine);
    return deviceStats(engine);
  },
};
