/**
 * Transactions: all of their actions happen, or none. Actions are prepared in order; one that can't be makes those before it
 * be undone in reverse. The monitor's command and the library's transaction() are this function.
 *
 * Invariant: until it is decided, all nodes concerned are drained: what a guest wrote after an action and before it is undone
 * would be lost with it. Source: QAPI transaction schema and behaviour of QEMU 7.2.
 */
import { closing } from "../base/lease.ts";
import { CommandError } from "../base/errors.ts";
import * as bitmaps from "../block/bitmap/commands.ts";
import { settleBitmaps } from "../block/bitmap/persistence.ts";
import { prepareSnapshot, prepareSnapshotSync } from "../block/graph/change.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import { prepareInternalSnapshot } from "../block/graph/internal-snapshots.ts";
import { drained } from "../block/model/drain.ts";
import type { BlockNode } from "../block/model/node.ts";
import type { ArgsOf, TransactionAction } from "../wire/qapi/index.ts";
import {
  type BackupAction,
  type BackupStartOptions,
  backupAction,
  driveBackupAction,
} from "./backup/backup.ts";
import type { BackupJob } from "./backup/job.ts";
import { jobsOf } from "./core/registry.ts";
import { JobTransaction } from "./core/job-core.ts";

/** One action that is prepared. */
interface Prepared {
  commit?: () => Promise<void> | void;
  abort?: () => Promise<void> | void;
  clean?: () => Promise<void> | void;
  job?: BackupJob;
}

const undoable = (undo: () => void): Prepared => ({ abort: undo });

/** What can end together with others: jobs do. */
const groupable: ReadonlySet<TransactionAction["type"]> = new Set(["blockdev-backup", "drive-backup"]);

async function prepare(
  graph: BlockGraph,
  action: TransactionAction,
  options: BackupStartOptions,
): Promise<Prepared> {
  if (options.transaction && action.type !== "abort" && !groupable.has(action.type)) {
    const property = "Transaction property completion-mode = grouped";
    throw new CommandError(`Action '${action.type}' does not support ${property}`, { code: "ENOTSUP" });
  }
  switch (action.type) {
    case "abort":
      throw new CommandError("Transaction aborted using Abort action");
    case "block-dirty-bitmap-add":
      return undoable(bitmaps.addBitmap(graph, action.data));
    case "block-dirty-bitmap-clear":
      return undoable(bitmaps.clearBitmap(graph, action.data));
    case "block-dirty-bitmap-enable":
      return undoable(bitmaps.enableBitmap(graph, action.data, true));
    case "block-dirty-bitmap-disable":
      return undoable(bitmaps.enableBitmap(graph, action.data, false));
    case "block-dirty-bitmap-merge":
      return undoable(bitmaps.mergeBitmaps(graph, action.data));
    case "block-dirty-bitmap-remove": {
      const bitmap = bitmaps.lookupBitmap(graph, action.data);
      bitmap.check({ readOnly: true, inconsistent: true });
      // Another action may make its node read-only, which stores the bitmaps that stay.
      bitmap.leaves = true;
      return {
        commit: () => bitmap.release(),
        abort: () => {
          bitmap.leaves = false;
        },
      };
    }
    case "blockdev-snapshot":
      return prepareSnapshot(graph, action.data);
    case "blockdev-snapshot-internal-sync":
      return prepareInternalSnapshot(graph, action.data);
    case "blockdev-snapshot-sync":
      return prepareSnapshotSync(graph, action.data);
    case "blockdev-backup":
      return prepareJob(backupAction(graph, action.data, options));
    case "drive-backup":
      return prepareJob(driveBackupAction(graph, action.data, options));
  }
}

/** A job's action cleans up also when its own preparation failed. */
async function prepareJob(action: BackupAction): Promise<Prepared> {
  try {
    await action.prepare();
  } catch (error) {
    await action.clean();
    throw error;
  }
  return {
    commit: () => action.commit(),
    abort: () => action.abort(),
    clean: () => action.clean(),
    job: action.job,
  };
}

/** The nodes that the actions name, and all that are connected with them: a disk that does not answer stops only its own. */
function concerned(graph: BlockGraph, actions: readonly TransactionAction[]): BlockNode[] {
  const found = new Set<BlockNode>();
  const add = (node: BlockNode | undefined): void => {
    if (!node || found.has(node)) return;
    found.add(node);
    for (const child of node.children) add(child.node);
    for (const { parent } of node.parents) add(parent.parentNode);
  };
  for (const { data } of actions)
    for (const name of Object.values(data))
      if (typeof name === "string") add(graph.backends.get(name)?.root?.node ?? graph.findNode(name));
  return graph.nodes.filter((node) => found.has(node));
}

/** What a caller inside the program may add to a job's action. */
export type ActionOptions = (action: TransactionAction) => Omit<BackupStartOptions, "transaction">;

/**
 * Runs a transaction, and resolves with its jobs, running, in the order of their actions. Rejects with the error of the action
 * that could not be prepared; then nothing has happened.
 */
export function runTransaction(
  graph: BlockGraph,
  args: ArgsOf<"transaction">,
  optionsOf: ActionOptions = () => ({}),
): Promise<BackupJob[]> {
  return jobsOf(graph).exclusively(() => runActions(graph, args, optionsOf));
}

async function runActions(
  graph: BlockGraph,
  { actions, properties }: ArgsOf<"transaction">,
  optionsOf: ActionOptions,
): Promise<BackupJob[]> {
  const transaction = properties?.["completion-mode"] === "grouped" ? new JobTransaction() : undefined;
  const prepared: Prepared[] = [];
  await drained(concerned(graph, actions), async () => {
    try {
      for (const action of actions)
        prepared.push(await prepare(graph, action, { ...optionsOf(action), transaction }));
    } catch (error) {
      for (const action of prepared.toReversed()) await action.abort?.();
      for (const action of prepared) await action.clean?.();
      throw error;
    }
  });
  const commit = async (): Promise<void> => {
    for (const action of prepared) await action.commit?.();
    await settleBitmaps(graph.nodes);
  };
  await closing(commit, ...prepared.map((action) => async () => action.clean?.()));
  return prepared.flatMap(({ job }) => job ?? []);
}
