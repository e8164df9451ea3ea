// A file system of a few MiB that fills up: a tmpfs, mounted for one test. Mounting needs root.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A small file system. */
export interface SmallDisk {
  path: (name: string) => string;
  /** Takes `bytes` of it, until free() gives them back. */
  fill(bytes: number): void;
  free(): void;
  unmount(): void;
}

/** Why no small disk can be mounted here; undefined if one can. */
export function whyNoSmallDisk(): string | undefined {
  if (process.getuid?.() !== 0) return "mounting a tmpfs needs root";
  try {
    mountSmallDisk(2 ** 20).unmount();
    return undefined;
  } catch (error) {
    return `mounting a tmpfs failed: ${String(error)}`;
  }
}

/** Mounts one that holds `bytes`. */
export function mountSmallDisk(bytes: number): SmallDisk {
  const directory = mkdtempSync(join(tmpdir(), "blockwright-small-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes},mode=700`, "tmpfs", directory], {
      stdio: "pipe",
    });
  } catch (error) {
    rmSync(directory, { recursive: true });
    throw error;
  }
  const hog = join(directory, "hog");
  return {
    path: (name) => join(directory, name),
    fill: (taken) => writeFileSync(hog, Buffer.alloc(taken, 0x55)),
    free: () => rmSync(hog),
    unmount() {
      execFileSync("umount", ["-l", directory], { stdio: "pipe" });
      rmSync(directory, { recursive: true });
    },
  };
}
