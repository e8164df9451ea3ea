/**
 * What commands and transactions do to internal snapshots, in QEMU's words.
 * Source: behaviour of QEMU 7.2's blockdev-snapshot-internal-sync and blockdev-snapshot-delete-internal-sync.
 */
import { BlockError, CommandError, errnoOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import type { PreparedChange } from "./change.ts";
import { snapshotOwner } from "../model/chain.ts";
import { drained } from "../model/drain.ts";
import type { SnapshotInfo, SnapshotStore } from "../model/contract.ts";
import type { BlockGraph } from "./graph.ts";
import type { BlockNode } from "../model/node.ts";

/** Runs a change of the store; a failure is told with `words` before it. */
async function attempt<T>(words: string, change: () => Promise<T>): Promise<T> {
  try {
    return await change();
  } catch (cause) {
    if (!(cause instanceof BlockError)) throw cause;
    throw new CommandError(`${words}: ${strerror(errnoOf(cause))}`, { cause });
  }
}

/** Takes a snapshot at once; `abort` removes it again. */
export async function prepareInternalSnapshot(
  graph: BlockGraph,
  { device, name }: { device: string; name: string },
): Promise<PreparedChange> {
  const node = graph.rootNode(device);
  node.checkBlocked("internal-snapshot");
  if (node.readOnly) throw new CommandError(`Device '${device}' is read only`);
  const owner = snapshotOwner(node);
  const store = owner.driver.snapshots?.();
  if (!store) {
    const format = `Block format '${node.type.name}' used by device '${device}'`;
    throw new CommandError(`${format} does not support internal snapshots`, { code: "ENOTSUP" });
  }
  if (name === "") throw new CommandError("Name is empty");
  if (store.list().some((snapshot) => snapshot.name === name)) {
    throw new CommandError(`Snapshot with name '${name}' already exists on device '${device}'`, {
      code: "EEXIST",
    });
  }
  const words = `Failed to create snapshot '${name}' on device '${device}'`;
  const made = await drained([owner], () => attempt(words, () => store.create({ name })));
  return { commit: () => Promise.resolve(), abort: () => drained([owner], () => store.remove(made.id)) };
}

/** Which snapshot to remove; at least one is given, and all that are given must match. */
export interface SnapshotToRemove {
  readonly device: string;
  readonly id?: string;
  readonly name?: string;
}

/** Removes a snapshot; resolves with what it was. */
export async function removeInternalSnapshot(
  graph: BlockGraph,
  args: SnapshotToRemove,
): Promise<SnapshotInfo> {
  const { device, id, name } = args;
  const node = graph.rootNode(device);
  if (id === undefined && name === undefined) throw new CommandError("Name or id must be provided");
  node.checkBlocked("internal-snapshot-delete");
  const owner = snapshotOwner(node);
  const store = storeOf(owner);
  const matches = (snapshot: SnapshotInfo): boolean =>
    (id === undefined || snapshot.id === id) && (name === undefined || snapshot.name === name);
  const found = store.list().find(matches);
  if (!found) {
    const which = `Snapshot with id '${id ?? "null"}' and name '${name ?? "null"}'`;
    throw new CommandError(`${which} does not exist on device '${device}'`, { code: "ENOENT" });
  }
  const words = `Failed to delete snapshot '${found.id}' on device '${device}'`;
  await drained([owner], () => attempt(words, () => store.remove(found.id)));
  return found;
}

function storeOf(node: BlockNode): SnapshotStore {
  const store = node.driver.snapshots?.();
  if (!store)
    throw new CommandError("Failed to get a snapshot list: Operation not supported", { code: "ENOTSUP" });
  return store;
}
