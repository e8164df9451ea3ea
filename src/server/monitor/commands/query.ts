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

/** Whoever has edges, each with a number, in QEMU's order: users, jobs, nodes from the oldest on, all told from the last to the first. */
class GraphRows {
  readonly #ids = new Map<object, number>();
  readonly #nodes: TypeOf<"XDbgBlockGraphNode">[] = [];
  readonly #edges: TypeOf<"XDbgBlockGraphEdge">[] = [];

  add(owner: object, { type, name }: Omit<TypeOf<"XDbgBlockGraphNode">, "id">, edges: Iterable<Child>): void {
    this.#nodes.unshift({ id: this.#idOf(owner), type, name });
    for (const edge of edges) this.#edges.unshift(edgeRow(edge, (thing) => this.#idOf(thing)));
  }

  #idOf(thing: object): number {
    const id = this.#ids.get(thing) ?? this.#ids.size + 1;
    this.#ids.set(thing, id);
    return id;
  }

  get graph(): TypeOf<"XDbgBlockGraph"> {
    return { nodes: this.#nodes, edges: this.#edges };
  }
}

/** All nodes, jobs and backends with the edges between them. */
function queryGraph({ graph, jobs }: Engine): TypeOf<"XDbgBlockGraph"> {
  const rows = new GraphRows();
  const nodes = graph.nodes.toReversed();
  const edges = new Map<object, Child[]>();
  for (const edge of nodes.flatMap(({ parents }) => [...parents])) {
    const own = edges.get(edge.parent) ?? [];
    own.push(edge);
    edges.set(edge.parent, own);
  }
  const take = (owner: object): readonly Child[] => {
    const own = edges.get(owner) ?? [];
    edges.delete(owner);
    return own;
  };
  const [backends, blockJobs] = [
    [...graph.backends.values()],
    jobs.jobs.filter(({ isBlockJob }) => isBlockJob),
  ];
  const named = backends.map((one) => ({
    one,
    type: "block-backend" as const,
    name: one.name,
    edges: take(one),
  }));
  const working = blockJobs.map((one) => ({
    one,
    type: "block-job" as const,
    name: one.id,
    edges: take(one),
  }));
  const ofNodes = nodes.map((one) => {
    // The newest edge first.
    const own = new Set(take(one));
    const below = one.children.filter((edge) => own.has(edge)).toReversed();
    return { one, type: "block-driver" as const, name: one.name, edges: below };
  });
  const nameless = [...edges].map(([one, own]) => ({
    one,
    type: "block-backend" as const,
    name: "",
    edges: own,
  }));
  for (const { one, type, name, edges: own } of [...named, ...nameless, ...working, ...ofNodes])
    rows.add(one, { type, name }, own);
  return rows.graph;
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
