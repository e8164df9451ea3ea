/** Whether a device is mounted, is swapped to, or holds a partition that is: by Linux's tables. */
import { readFile, realpath, stat } from "node:fs/promises";

/** `major:minor` of a device number of Linux. */
function numbers(device: number): string {
  const major = ((device >> 8) & 0xfff) | (Math.floor(device / 2 ** 32) & ~0xfff);
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  return `${major}:${minor}`;
}

async function lines(path: string): Promise<string[]> {
  return readFile(path, "utf8").then(
    (text) => text.split("\n"),
    () => [],
  );
}

/** The device's folder in sysfs, in which those of its partitions lie. */
async function folder(device: string): Promise<string | undefined> {
  return realpath(`/sys/dev/block/${device}`).catch(() => undefined);
}

/** Devices that are in use: those of mounted file systems, and of swap. */
async function usedDevices(): Promise<Set<string>> {
  const used = new Set<string>();
  for (const line of await lines("/proc/self/mountinfo")) {
    const device = line.split(" ")[2];
    if (device !== undefined) used.add(device);
  }
  for (const line of (await lines("/proc/swaps")).slice(1)) {
    const [path = ""] = line.split(/\s/);
    const info = path.startsWith("/dev/") ? await stat(path).catch(() => undefined) : undefined;
    if (info) used.add(numbers(info.rdev));
  }
  return used;
}

/** Whether writing to the device would pull the rug from under a file system. */
export async function isMounted(path: string): Promise<boolean> {
  const own = numbers((await stat(path)).rdev);
  const used = await usedDevices();
  if (used.has(own)) return true;
  const whole = await folder(own);
  if (whole === undefined) return false;
  for (const device of used) if ((await folder(device))?.startsWith(`${whole}/`)) return true;
  return false;
}
