/**
 * File systems that somebody serves: another machine, or a process of this one, who may not answer. No call on one of them is made in
 * the caller's turn, since whoever waits in a call hears no Ctrl-C. Linux says which there are; elsewhere none is known.
 * Source: proc(5), mountinfo.
 */
import { readFileSync } from "node:fs";
import type { FileFacts } from "./calls.ts";
import { numbersOf } from "./info.ts";

/** A line of /proc/self/mountinfo: the device, and where it is mounted. What serves counters of a container, documents of a sandbox or mounts on demand holds no images. */
const SERVED =
  /^\d+ \d+ (\d+:\d+) \S+ (?!\/proc\/)\S+ .*? - (?:fuse(?:blk)?(?!\.(?:lxcfs|portal) )(?:\.\S+)?|nfs4?|cifs|smb3|9p|virtiofs|ceph|afs|lustre|beegfs|gpfs|orangefs|autofs) /gm;
/** Most machines have none: what costs less to find out. */
const MAYBE = /- (?:fuse|nfs|cifs|smb3|9p|virtiofs|ceph|afs|lustre|beegfs|gpfs|orangefs|autofs)/;

/** The devices of such file systems, as `MAJOR:MINOR`, out of the system's list of mounts. */
export function servedDevices(mounts = listOfMounts()): ReadonlySet<string> {
  if (!MAYBE.test(mounts)) return new Set();
  return new Set([...mounts.matchAll(SERVED)].map(([, device = ""]) => device));
}

function listOfMounts(): string {
  try {
    return readFileSync("/proc/self/mountinfo", "latin1");
  } catch {
    return "";
  }
}

/** Whether a file is on one of the devices. */
export function isOn(devices: ReadonlySet<string>, { dev }: FileFacts): boolean {
  if (devices.size === 0) return false;
  const { major, minor } = numbersOf(dev);
  return devices.has(`${major}:${minor}`);
}
