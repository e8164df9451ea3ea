/**
 * The amend job (x-blockdev-amend): changes options of an open image. It is dismissed by hand, and its progress is 0 of
 * 1, then 1 of 1, also when it fails. Source: behaviour of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import type { Lease } from "../../base/lease.ts";
import { amend, checkAmendable, takeForAmend } from "../../block/graph/amend.ts";
import type { AmendOptions } from "../../block/model/contract.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { jobsOf } from "../core/registry.ts";
import { Job, type JobOptions } from "../core/job.ts";
import { startJob } from "../start.ts";

/** Arguments of x-blockdev-amend. */
export interface BlockdevAmendArguments {
  "job-id": string;
  "node-name": string;
  /** QAPI's BlockdevAmendOptions: `driver`, which must be the node's, and what is to change. */
  options: Record<string, unknown> & { driver: string };
  /** Also do what may lose access to data; default false. */
  force?: boolean | undefined;
}

/** Amends one image. */
export class AmendJob extends Job {
  readonly #held: readonly Lease[];
  readonly #node: BlockNode;
  readonly #options: AmendOptions;
  readonly #force: boolean;

  constructor(
    init: JobOptions & { held: readonly Lease[]; node: BlockNode; options: AmendOptions; force: boolean },
  ) {
    super(init);
    this.#held = init.held;
    this.#node = init.node;
    this.#options = init.options;
    this.#force = init.force;
  }

  protected override async run(): Promise<void> {
    this.counter.setRemaining(1);
    try {
      await amend(this.#node, this.#options, { force: this.#force, signal: this.signal });
    } finally {
      this.counter.done(1);
    }
  }

  protected override async clean(): Promise<void> {
    for (const lease of this.#held.toReversed()) await lease.end();
  }
}

/** x-blockdev-amend. Throws CommandError if the node is not there or its driver is another; resolves with the running job. */
export async function startAmend(
  graph: BlockGraph,
  args: BlockdevAmendArguments,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<AmendJob> {
  const { driver, ...options } = args.options;
  const node = graph.nodeOrDevice({ node: args["node-name"] });
  if (![...graph.drivers].some(({ name }) => name === driver)) {
    throw new CommandError(`Block driver '${driver}' not found or not supported`, { code: "ENOENT" });
  }
  if (node.type.name !== driver) {
    throw new CommandError("x-blockdev-amend doesn't support changing the block driver");
  }
  checkAmendable(node);
  const common = {
    id: args["job-id"],
    type: "amend" as const,
    registry: jobsOf(graph),
    autoDismiss: false,
    signal,
  };
  return startJob({
    take: async (leases) => [leases.add(graph.hold(node)), leases.add(await takeForAmend(node))],
    make: (held) => new AmendJob({ ...common, held, node, options, force: args.force ?? false }),
  });
}
