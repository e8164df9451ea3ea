/**
 * The graph as opening and closing a node see it. BlockGraph is the only one; the interface keeps graph.ts, which opens and
 * closes, from going in circles with the files that do it.
 */
import type { Host, HostChannel } from "../../base/host.ts";
import type { ChildRole, DriverType, GraphView, NodeSpec, Permissions } from "../model/contract.ts";
import type { Arena } from "../../kernels/arena.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import type { Gate } from "../model/gate.ts";
import type { BlockNode, Child, ChildParent } from "../model/node.ts";

/** What an engine is made of. */
export interface GraphInit {
  host: Host;
  kernels: Kernels;
  arena?: Arena;
  gate?: Gate;
  /** See job/error-policy.ts; off by default as in QEMU 7.2. */
  strictErrorPolicy?: boolean;
}

/** Where nodes live: their names, drivers and owners. */
export interface NodeHome extends GraphView {
  readonly gate: Gate;
  readonly arena: Arena;
  /** Where the requests of nodes are published (`blockwright:request`), if anywhere. */
  readonly watchers: HostChannel | undefined;
  /** The driver of that name, or `Unknown driver 'x'`. */
  driver(name: string): DriverType;
  /** Checks a wished name or makes one. */
  claimName(name: string | undefined): string;
  /** Registers a node under its name. */
  addNode(node: BlockNode): void;
  /** It comes before all others in lists now, which begin with the newest. */
  addAgain(node: BlockNode): void;
  removeNode(node: BlockNode): void;
  lookup(name: string): BlockNode;
  open(spec: NodeSpec): Promise<BlockNode>;
  /** Closes the node if nobody uses it. */
  releaseIfUnused(node: BlockNode): Promise<void>;
  attach(
    parent: ChildParent,
    node: BlockNode,
    options: { name: string; role?: ChildRole } & Permissions,
  ): Promise<Child>;
  detach(child: Child): Promise<void>;
}

/** What is to be made. */
export interface NewImage {
  format: string;
  filename: string;
  /** Virtual size, bytes. */
  size: number;
  /** The image that the header shall name, if any, by a name that opens the same disk. */
  backing?: { node: BlockNode; format: string } | undefined;
}
