/**
 * savevm, loadvm and delvm: internal snapshots of all disks at once. There is no guest, so the saved machine is empty, and a
 * snapshot that QEMU took is loaded without the machine in it.
 *
 * Invariant: all writable disks are looked at before the first is changed. Source: behaviour of QEMU 7.2's migration/savevm.c.
 */
import { strerror } from "../../base/errno.ts";
import { BlockError, CommandError } from "../../base/errors.ts";
import type { SnapshotInfo, SnapshotStore } from "../../block/model/contract.ts";
import { drained } from "../../block/model/drain.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Board } from "./board.ts";

/** A disk that has snapshots. */
export interface Disk {
  readonly node: BlockNode;
  readonly store: SnapshotStore;
}

/** The writable disks. Throws CommandError where one has no snapshots. */
function disksOf(board: Board): Disk[] {
  return [...writable(board)].map((node) => diskOf(node));
}

function diskOf(node: BlockNode): Disk {
  const store = node.driver.snapshots?.();
  if (!store)
    throw new CommandError(`Device '${node.deviceOrName}' is writable but does not support snapshots`);
  return { node, store };
}

/** The disks of those names. Throws CommandError. */
export function disksNamed({ engine }: Board, names: readonly string[]): Disk[] {
  if (names.length === 0) throw new CommandError("At least one device is required for snapshot");
  return names.map((name) => {
    const node = engine.graph.findNode(name);
    if (!node) throw new CommandError(`No block device node '${name}'`);
    return diskOf(node);
  });
}

/** Whether any of the disks has a snapshot of that name. */
export function anyHas(disks: readonly Disk[], name: string): boolean {
  return disks.some((disk) => byName(disk, name) !== undefined);
}

/** The first of them keeps the machine. */
function writable({ drives, engine }: Board): Set<BlockNode> {
  const inDrives = [...drives].flatMap(({ node }) => (node ? [node] : []));
  const roots = [...engine.graph.nodes].filter((node) => node.parents.size === 0);
  return new Set([...inDrives, ...roots].filter((node) => !node.readOnly));
}

function byName({ store }: Disk, name: string): SnapshotInfo | undefined {
  return store.list().find((snapshot) => snapshot.name === name);
}

/** Takes one of all disks; one of that name that is there goes first. Throws CommandError. */
export async function saveAll(board: Board, name = nameByDate(board)): Promise<void> {
  const disks = disksOf(board);
  if (disks.length === 0) throw new CommandError("no block device can store vmstate for snapshot");
  await saveOn(board, disks, name);
}

/** The same of some disks. Throws CommandError. */
export async function saveOn(board: Board, disks: readonly Disk[], name: string): Promise<void> {
  await stopped(board, async () => {
    await removeFrom(disks, name);
    for (const disk of disks) {
      const words = `Could not create snapshot '${name}' on '${disk.node.deviceOrName}'`;
      await attempt(words, () => drained([disk.node], () => disk.store.create({ name })));
    }
  });
}

/** Makes all disks what they were. Throws CommandError. */
export async function loadAll(board: Board, name: string): Promise<void> {
  await restored(board, () => loadOn(disksOf(board), name));
}

/** The same of some disks, of a machine that stands still. Throws CommandError; disks before the one that fails are as they were then. */
export async function loadOn(disks: readonly Disk[], name: string): Promise<void> {
  const found = disks.map((disk) => ({ ...disk, snapshot: byName(disk, name) }));
  if (found.length === 0) throw new CommandError("no block device can store vmstate for snapshot");
  if (found.some(({ snapshot }) => !snapshot))
    throw new CommandError(`Snapshot '${name}' does not exist in one or more devices`);
  for (const { node, store, snapshot } of found) {
    const words = `Could not load snapshot '${name}' on '${node.deviceOrName}'`;
    const load = (): Promise<unknown> => drained([node], () => store.apply(snapshot!.id));
    await attempt(words, load, "Failed to load snapshot");
    node.updateLength();
  }
}

/** The guest stands still, and goes on only where all disks are what they were: what failed must not be run. */
export async function restored(board: Board, body: () => Promise<void>): Promise<void> {
  const { machine } = board.engine;
  const wasRunning = machine.isRunning;
  await machine.stop("restore-vm");
  await body();
  if (wasRunning) await machine.cont();
}

/** Forgets it wherever it is. Throws CommandError. */
export async function removeAll(board: Board, name: string): Promise<void> {
  await removeFrom(disksOf(board), name);
}

/** The same of some disks. Throws CommandError. */
export async function removeFrom(disks: readonly Disk[], name: string): Promise<void> {
  for (const disk of disks) {
    const found = byName(disk, name);
    if (!found) continue;
    const words = `Could not delete snapshot '${name}' on '${disk.node.deviceOrName}'`;
    await attempt(words, () => drained([disk.node], () => disk.store.remove(found.id)));
  }
}

/** The snapshots that can be loaded, and those that only some disks have. */
export interface SnapshotsOfAll {
  readonly loadable: readonly SnapshotInfo[];
  readonly partial: readonly { readonly disk: string; readonly snapshots: readonly SnapshotInfo[] }[];
}

/** All snapshots. Throws CommandError where no disk can have any. */
export function listAll(board: Board): SnapshotsOfAll {
  const stores = [...writable(board)].flatMap((node) => {
    const store = node.driver.snapshots?.();
    return store ? [{ node, store }] : [];
  });
  const [first] = stores;
  if (!first) throw new CommandError("no block device can store vmstate for snapshot");
  const isEverywhere = ({ name }: SnapshotInfo): boolean => stores.every((disk) => byName(disk, name));
  const partial = stores.map(({ node, store }) => ({
    disk: node.deviceOrName,
    snapshots: store.list().filter((snapshot) => !isEverywhere(snapshot)),
  }));
  return {
    loadable: first.store.list().filter(isEverywhere),
    partial: partial.filter(({ snapshots }) => snapshots.length > 0),
  };
}

/** The guest stands still meanwhile. */
async function stopped(board: Board, body: () => Promise<void>): Promise<void> {
  const { machine } = board.engine;
  const wasRunning = machine.isRunning;
  if (wasRunning) await machine.stop("paused");
  try {
    await body();
  } finally {
    if (wasRunning) await machine.cont();
  }
}

/** With `what`, the reason is told, too. */
async function attempt(words: string, change: () => Promise<unknown>, what?: string): Promise<void> {
  try {
    await change();
  } catch (cause) {
    if (!(cause instanceof BlockError)) throw cause;
    const why = what === undefined ? "" : `: ${what}: ${strerror(cause.code)}`;
    throw new CommandError(`${words}${why}`, { cause });
  }
}

function nameByDate({ engine }: Board): string {
  const date = new Date(engine.graph.host.clock.wallMicroseconds() / 1000);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = [date.getMonth() + 1, date.getDate(), date.getHours(), date.getMinutes(), date.getSeconds()];
  return `vm-${date.getFullYear()}${day.map(two).join("")}`;
}
