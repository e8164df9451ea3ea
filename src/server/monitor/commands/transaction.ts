/**
 * The transaction command: all of its actions happen, or none. Actions are prepared in order; one that can't be makes
 * those before it be undone in reverse. Source: QAPI transaction schema and behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import * as bitmaps from "../../../block/bitmap/commands.ts";
import { prepareSnapshot, prepareSnapshotSync } from "../../../block/graph/change.ts";
import { drained } from "../../../block/model/drain.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import type { BlockGraph } from "../../../block/graph/graph.ts";
import { prepareInternalSnapshot } from "../../../block/graph/internal-snapshots.ts";
import { type BackupAction, backupAction, driveBackupAction } from "../../../job/backup/backup.ts";
import { JobTransaction } from "../../../job/core/transaction.ts";
import type { Engine } from "../../../machine/engine.ts";
import type { ArgsOf, TransactionAction } from "../../../wire/qapi/index.ts";
import type { CommandHandlers } from "../registry.ts";

/** One action that is prepared. */
interface Prepared {
  commit?: () => Promise<void> | void;
  abort?: () => Promise<void> | void;
  clean?: () => Promise<void> | void;
}

const undoable = (undo: () => void): Prepared => ({ abort: undo });

async function prepare(
  graph: BlockGraph,
  action: TransactionAction,
  group: JobTransaction | undefined,
): Promise<Prepared> {
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
      return { commit: () => bitmap.release() };
    }
    case "blockdev-snapshot":
      return prepareSnapshot(graph, action.data);
    case "blockdev-snapshot-internal-sync":
      return prepareInternalSnapshot(graph, action.data);
    case "blockdev-snapshot-sync":
      return prepareSnapshotSync(graph, action.data);
    case "blockdev-backup":
      return prepareJob(backupAction(graph, action.data, { transaction: group }));
    case "drive-backup":
      return prepareJob(driveBackupAction(graph, action.data, { transaction: group }));
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
  return { commit: () => action.commit(), abort: () => action.abort(), clean: () => action.clean() };
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

/**
 * Runs a transaction. Rejects with the error of the action that could not be prepared. Until it is decided, all nodes concerned
 * are drained: what a guest wrote after an action and before it is undone would be lost with it.
 */
async function runTransaction(engine: Engine, args: ArgsOf<"transaction">): Promise<void> {
  const group = args.properties?.["completion-mode"] === "grouped" ? new JobTransaction() : undefined;
  const prepared: Prepared[] = [];
  await drained(concerned(engine.graph, args.actions), async () => {
    try {
      for (const action of args.actions) prepared.push(await prepare(engine.graph, action, group));
    } catch (error) {
      for (const action of prepared.toReversed()) await action.abort?.();
      for (const action of prepared) await action.clean?.();
      throw error;
    }
  });
  for (const action of prepared) await action.commit?.();
  for (const action of prepared) await action.clean?.();
}

/** Handlers. */
export const transactionCommands: CommandHandlers<Engine> = {
  transaction: async (args, { engine }) => {
    await engine.jobs.exclusively(() => runTransaction(engine, args));
    return {};
  },
};
