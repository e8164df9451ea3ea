/**
 * A node as the disk of an emulated guest: its device in the engine's machine, with error policies and a deadline.
 */
import type { OnError } from "../job/core/error-policy.ts";
import { GuestDevice } from "../machine/device.ts";
import { type GuestDisk, guestDiskOf } from "../machine/guest-disk.ts";
import { type Node, releaseIdle } from "./node.ts";
import { optionsOf, type OptionTable } from "./options.ts";

/** Most time that a guest's request may take by default, ms: Linux gives a disk up after 30 s. */
const DEADLINE_MS = 20_000;

/** How the guest's device is set up. */
export interface GuestDiskOptions {
  /** Name of the guest's device in events and in QMP; default `hda`. */
  device?: string;
  /** On a failed read: stop (default), report, ignore. */
  rerror?: OnError;
  /** On a failed write: stop (default), enospc, report, ignore. */
  werror?: OnError;
  /**
   * False (default): each write is durable before it completes, since v86 tells a disk nothing of the guest's flushes. True: what
   * was written since the last flush() may be lost with the page; flushing is then the caller's.
   */
  writeCache?: boolean;
  /** A request that takes longer stops the machine, and is waited for; milliseconds, 0: none. Default 20 000. */
  deadlineMs?: number;
}

/** The types of the device's options. */
export const guestOptions = {
  device: "str",
  rerror: "BlockdevOnError",
  werror: "BlockdevOnError",
  writeCache: "bool",
  deadlineMs: "Finite",
} as const satisfies OptionTable<GuestDiskOptions>;

const checkOptions = optionsOf<GuestDiskOptions>(guestOptions);

/** Plugs the device. Throws CommandError for a bad policy or a name that is taken, EPERM where others write to the node. */
export async function plugGuest(node: Node, options: GuestDiskOptions): Promise<GuestDisk> {
  checkOptions(options);
  const { device = "hda", rerror = "stop", werror = "stop", deadlineMs = DEADLINE_MS } = options;
  const { machine } = node.engine;
  await releaseIdle(node.engine);
  return guestDiskOf(
    await GuestDevice.plug({
      machine,
      name: device,
      node: node.blockNode,
      rerror,
      werror,
      deadlineMs,
      writeCache: options.writeCache ?? false,
    }),
  );
}
