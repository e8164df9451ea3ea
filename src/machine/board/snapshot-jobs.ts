/**
 * snapshot-save, snapshot-load and snapshot-delete: internal snapshots of named disks, as jobs that are dismissed by hand. The machine
 * in them is empty. Source: behaviour of QEMU 7.2's migration/savevm.c.
 */
import { CommandError } from "../../base/errors.ts";
import { Job } from "../../job/core/job.ts";
import { jobsOf } from "../../job/core/registry.ts";
import { startJob } from "../../job/start.ts";
import type { Board } from "./board.ts";
import { anyHas, type Disk, disksNamed, loadOn, removeFrom, restored, saveOn } from "./snapshots.ts";

/** The kinds. */
export type SnapshotJobKind = "snapshot-save" | "snapshot-load" | "snapshot-delete";

/** Arguments of the commands. */
export interface SnapshotJobArguments {
  readonly "job-id": string;
  readonly tag: string;
  /** The node that keeps the machine's state. */
  readonly vmstate?: string;
  readonly devices: readonly string[];
}

class SnapshotJob extends Job {
  readonly #work: () => Promise<void>;

  constructor(board: Board, kind: SnapshotJobKind, args: SnapshotJobArguments) {
    super({
      id: args["job-id"],
      type: kind,
      registry: jobsOf(board.engine.graph),
      autoDismiss: false,
    });
    this.#work = () => works[kind](board, args);
  }

  protected override async run(): Promise<void> {
    this.counter.setRemaining(1);
    try {
      await this.#work();
    } finally {
      this.counter.done(1);
    }
  }

  protected override clean(): Promise<void> {
    return Promise.resolve();
  }
}

const works: Record<SnapshotJobKind, (board: Board, args: SnapshotJobArguments) => Promise<void>> = {
  "snapshot-save": async (board, { tag, devices, vmstate }) => {
    const disks = disksNamed(board, devices);
    if (anyHas(disks, tag)) throw new CommandError(`Snapshot '${tag}' already exists in one or more devices`);
    checkState(disks, vmstate);
    await saveOn(board, disks, tag);
  },
  "snapshot-load": (board, { tag, devices, vmstate }) =>
    restored(board, async () => {
      const disks = disksNamed(board, devices);
      if (!disks.every((disk) => anyHas([disk], tag)))
        throw new CommandError(`Snapshot '${tag}' does not exist in one or more devices`);
      checkState(disks, vmstate);
      await loadOn(disks, tag);
    }),
  "snapshot-delete": async (board, { tag, devices }) => removeFrom(disksNamed(board, devices), tag),
};

function checkState(disks: readonly Disk[], vmstate = ""): void {
  if (!disks.some(({ node }) => node.name === vmstate))
    throw new CommandError(`vmstate block device '${vmstate}' does not exist`);
}

/** Starts one. Throws CommandError where the id is no good or taken; all else is the job's. */
export async function startSnapshotJob(
  board: Board,
  kind: SnapshotJobKind,
  args: SnapshotJobArguments,
): Promise<void> {
  await startJob({ take: () => Promise.resolve(), make: () => new SnapshotJob(board, kind, args) });
}
