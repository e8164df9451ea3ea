/**
 * Internal snapshots for library callers: earlier states of a disk that are kept in its own image (qcow2). Each change has
 * the disk to itself and is durable when it resolves; a kill leaves the disk and its snapshots as before or after.
 */
import { BlockError, blockError } from "../base/errors.ts";
import { drained } from "../block/model/drain.ts";
import type { SnapshotInfo, SnapshotStore } from "../block/model/contract.ts";
import type { BlockNode } from "../block/model/node.ts";
import { skipImplicitFilters } from "../block/model/chain.ts";
import type { Node } from "./node.ts";
import { checkArgument, checkNodes } from "./options.ts";
import { checkNoGuestRuns, type WholeDiskOptions } from "./running-guest.ts";

export type { SnapshotInfo };

/** Names a snapshot: its id, its name, or both, which then must be of one. A string is an id or else a name. */
export type SnapshotRef = string | { id?: string; name?: string };

/** The image's snapshots, oldest first; none where the format has no such thing. */
export function snapshots(node: Node): readonly SnapshotInfo[] {
  return imageOf(node).driver.snapshots?.()?.list() ?? [];
}

/**
 * Keeps the disk as it is now under a name of at most 255 bytes, which need not be unique. ENOTSUP where the format has no
 * snapshots, EACCES for a disk that is open for reading only.
 */
export async function createSnapshot(node: Node, name: string): Promise<SnapshotInfo> {
  checkArgument("name", name, "str");
  // A machine that is off has run no instructions.
  return changed(node, (store) => store.create({ name, icount: 0 }));
}

/**
 * Makes the disk, its length too, what it was. ENOENT without such a snapshot, EBUSY for a disk with dirty bitmaps, or of a guest
 * that runs (see WholeDiskOptions); else as createSnapshot().
 */
export async function applySnapshot(
  node: Node,
  which: SnapshotRef,
  options: WholeDiskOptions = {},
): Promise<void> {
  checkNoGuestRuns(node, imageOf(node), options);
  return changed(node, (store) => store.apply(find(store, which)));
}

/** Forgets a snapshot. Errors as applySnapshot(). */
export function removeSnapshot(node: Node, which: SnapshotRef): Promise<void> {
  return changed(node, (store) => store.remove(find(store, which)));
}

/** Lets a disk that is open for reading only show a snapshot instead of its present content. ENOENT, ENOTSUP, EINVAL. */
export async function showSnapshot(node: Node, which: SnapshotRef): Promise<void> {
  const store = storeOf(imageOf(node));
  await store.show(find(store, which));
}

function imageOf(node: Node): BlockNode {
  checkNodes({ node });
  return skipImplicitFilters(node.blockNode);
}

function storeOf(image: BlockNode): SnapshotStore {
  const store = image.driver.snapshots?.();
  if (store) return store;
  const message = `Block format '${image.type.name}' does not support internal snapshots`;
  throw new BlockError({ code: "ENOTSUP", op: "snapshot", node: image.name, message });
}

async function changed<T>(node: Node, change: (store: SnapshotStore) => Promise<T>): Promise<T> {
  const image = imageOf(node);
  const store = storeOf(image);
  return drained([image], () => change(store));
}

function find(store: SnapshotStore, which: SnapshotRef): string {
  checkArgument("which", which, "SnapshotRef");
  const list = store.list();
  const found =
    typeof which === "string"
      ? (list.find(({ id }) => id === which) ?? list.find(({ name }) => name === which))
      : list.find(({ id, name }) => (which.id ?? id) === id && (which.name ?? name) === name);
  if (!found) throw blockError("ENOENT", "snapshot", "Can't find snapshot");
  return found.id;
}
