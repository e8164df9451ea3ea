/**
 * Disks for v86 out of nodes and out of disks of a remote engine.
 */
import type { GuestDisk } from "../machine/guest-disk.ts";
import { V86Disk } from "../machine/v86/disk.ts";
import { DiskState, type GenerationKeeper } from "../machine/v86/state.ts";
import { type GuestDiskOptions, guestOptions, plugGuest } from "./guest.ts";
import type { Node } from "./node.ts";
import { optionsOf } from "./options.ts";

/** Options of toV86Disk() that do not depend on where the disk is. */
export interface V86StateOptions {
  /** Names the disk in the states of v86's save_state(); a state of a disk of another name is refused. Default: the image's file name, or the device's. */
  identity?: string;
  /** Keeps the generation of the content over reloads, so that states can be restored after one. Default: not kept. */
  generation?: GenerationKeeper;
}

/** Options of toV86Disk() for a node. */
export interface V86DiskOptions extends V86StateOptions, GuestDiskOptions {}

const checkState = optionsOf<V86StateOptions>({ identity: "str", generation: "Object" });
const checkDisk = optionsOf<V86DiskOptions>({ identity: "str", generation: "Object", ...guestOptions });

/**
 * A disk for v86 over a node, which stays open for it: `new V86({ hda: disk, … })`, then `disk.attach(emulator)`. Errors
 * that the policies make stop, and requests that miss the deadline, stop the emulator; the machine's cont() (or the
 * emulator's run()) tries again and lets it run. Throws CommandError for a bad policy or a name that is taken, EPERM
 * where others write to the node, EINVAL for a length that is no whole number of sectors.
 */
export async function toV86Disk(node: Node, options?: V86DiskOptions): Promise<V86Disk>;
/** The same over a disk of a remote engine, whose policies and deadline were set there. */
export async function toV86Disk(disk: GuestDisk, options?: V86StateOptions): Promise<V86Disk>;
export async function toV86Disk(from: Node | GuestDisk, options: V86DiskOptions = {}): Promise<V86Disk> {
  ("engine" in from ? checkDisk : checkState)(options);
  const { identity: named, generation, ...device } = options;
  const disk = "engine" in from ? await plugGuest(from, device) : from;
  try {
    const identity = named ?? identityOf(from, options);
    const state = await DiskState.load(identity, disk.session, generation);
    return new V86Disk({ disk, state });
  } catch (error) {
    if (disk !== from) await disk.close();
    throw error;
  }
}

function identityOf(from: Node | GuestDisk, { device = "hda" }: V86DiskOptions): string {
  const filename = "engine" in from ? from.chain[0]?.filename : undefined;
  return filename || device;
}
