/**
 * The create job (blockdev-create): formats an image or makes a file. It is dismissed by hand, and its progress is 0 of
 * 1, then 1 of 1, also when it fails. Source: behaviour of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import type { DriverType } from "../../block/model/contract.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { jobsOf } from "../core/registry.ts";
import { Job, type JobOptions } from "../core/job.ts";
import { startJob } from "../start.ts";

/** Arguments of blockdev-create. */
export interface BlockdevCreateArguments {
  "job-id": string;
  /** QAPI's BlockdevCreateOptions: `driver` and what that driver takes. */
  options: Record<string, unknown> & { driver: string };
}

/** Creates one image. */
export class CreateJob extends Job {
  readonly #graph: BlockGraph;
  readonly #driver: DriverType;
  readonly #options: Record<string, unknown>;

  constructor(
    init: JobOptions & { graph: BlockGraph; driver: DriverType; options: Record<string, unknown> },
  ) {
    super(init);
    this.#graph = init.graph;
    this.#driver = init.driver;
    this.#options = init.options;
  }

  protected override async run(): Promise<void> {
    this.counter.setRemaining(1);
    const context = { graph: this.#graph, host: this.#graph.host, signal: this.signal };
    try {
      await this.#driver.create?.(context, this.#options);
    } finally {
      this.counter.done(1);
    }
  }
}

/** blockdev-create. Throws CommandError if the driver is not there or creates nothing; resolves with the running job. */
export async function startCreate(
  graph: BlockGraph,
  args: BlockdevCreateArguments,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<CreateJob> {
  const { driver: name } = args.options;
  const driver = [...graph.drivers].find((type) => type.name === name);
  if (!driver)
    throw new CommandError(`Block driver '${name}' not found or not supported`, { code: "ENOENT" });
  if (!driver.create) throw new CommandError("Driver does not support blockdev-create", { code: "ENOTSUP" });
  return startJob({
    take: () =>
      Promise.resolve({
        id: args["job-id"],
        type: "create" as const,
        registry: jobsOf(graph),
        autoDismiss: false,
        signal,
        graph,
        driver,
        options: args.options,
      }),
    make: (init) => new CreateJob(init),
  });
}
