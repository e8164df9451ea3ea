/**
 * Media of removable drives: trays, and what lies in them. Source: behaviour of QEMU 7.2's block/qapi-sysemu.c.
 */
import { CommandError } from "../../base/errors.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Board } from "./board.ts";
import { BoardDisk } from "./device.ts";
import type { Drive } from "./drive.ts";

/** Which drive a command is about: by the name of the drive, or by the device's id. */
export interface DriveName {
  readonly device?: string | undefined;
  readonly id?: string | undefined;
}

function wordOf({ device, id }: DriveName): string {
  return device ?? id ?? "";
}

function diskOf(drive: Drive): BoardDisk | undefined {
  return drive.user instanceof BoardDisk ? drive.user : undefined;
}

function checkRemovable(drive: Drive, name: DriveName): void {
  if (drive.user && !drive.user.isRemovable)
    throw new CommandError(`Device '${wordOf(name)}' is not removable`);
}

function moveTray(board: Board, drive: Drive, open: boolean): void {
  const disk = diskOf(drive);
  if (!disk?.hasTray || drive.isTrayOpen === open) return;
  drive.isTrayOpen = open;
  board.events.emit("DEVICE_TRAY_MOVED", {
    device: drive.name,
    id: disk.backendPath,
    "tray-open": open,
  });
}

/** blockdev-open-tray; without a tray there is nothing to open. Throws CommandError. */
export function openTray(board: Board, name: DriveName): void {
  const drive = board.driveOf(name);
  checkRemovable(drive, name);
  moveTray(board, drive, true);
}

/** blockdev-close-tray. Throws CommandError. */
export function closeTray(board: Board, name: DriveName): void {
  const drive = board.driveOf(name);
  checkRemovable(drive, name);
  moveTray(board, drive, false);
}

/** blockdev-remove-medium, from a tray that is open. Throws CommandError. */
export async function removeMedium(board: Board, name: DriveName): Promise<void> {
  const drive = board.driveOf(name);
  checkRemovable(drive, name);
  const { node } = drive;
  if (diskOf(drive)?.hasTray && !drive.isTrayOpen)
    throw new CommandError(`Tray of device '${wordOf(name)}' is not open`);
  if (!node) return;
  node.checkBlocked("eject");
  await drive.remove();
}

/** blockdev-insert-medium, into a tray that is open. Throws CommandError. */
export async function insertMedium(board: Board, name: DriveName, nodeName: string): Promise<void> {
  board.driveOf(name);
  const node = board.engine.graph.findNode(nodeName);
  if (!node) throw new CommandError(`Node '${nodeName}' not found`);
  if (isUsed(node)) throw new CommandError(`Node '${nodeName}' is already in use`);
  await putIn(board, name, node);
}

/** Whether a drive or another guest's disk has the node. */
function isUsed(node: BlockNode): boolean {
  return [...node.parents].some(
    ({ name, parent }) => name === "root" && !parent.stayAtNode && "graph" in parent,
  );
}

async function putIn(board: Board, name: DriveName, node: BlockNode): Promise<void> {
  const drive = board.driveOf(name);
  checkRemovable(drive, name);
  if (diskOf(drive)?.hasTray && !drive.isTrayOpen)
    throw new CommandError(`Tray of device '${wordOf(name)}' is not open`);
  if (drive.isTaken) throw new CommandError(`There already is a medium in device '${wordOf(name)}'`);
  await drive.insert(node);
}

/** eject: opens the tray and takes the medium out. Throws CommandError. */
export async function eject(board: Board, name: DriveName): Promise<void> {
  const drive = board.driveOf(name);
  checkRemovable(drive, name);
  moveTray(board, drive, true);
  await removeMedium(board, name);
}

/**
 * blockdev-change-medium: another medium, whose node `open` makes with a reference on it. It is opened before the old one is
 * taken out. Throws CommandError.
 */
export async function changeMedium(
  board: Board,
  name: DriveName,
  {
    mode,
    open,
  }: { mode: "retain" | "read-only" | "read-write"; open: (readOnly: boolean) => Promise<BlockNode> },
): Promise<void> {
  const drive = board.driveOf(name);
  const before = drive.readOnly;
  const readOnly = mode === "retain" ? before || (drive.node?.readOnly ?? false) : mode === "read-only";
  const node = await open(readOnly);
  try {
    checkRemovable(drive, name);
    moveTray(board, drive, true);
    await removeMedium(board, name);
    drive.readOnly = readOnly;
    await putIn(board, name, node);
    moveTray(board, drive, false);
  } catch (error) {
    drive.readOnly = before;
    throw error;
  } finally {
    await board.engine.graph.release(node);
  }
}
