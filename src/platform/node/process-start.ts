/** When a process began: by it and its number it is told from others that had the number, or will have it. */
import { processOf, thisMachine } from "./owner.ts";

/** When a process of this machine began, in the system's own measure; undefined: there is none. Empty where the system does not tell. */
export function startOf(pid: number): string | undefined {
  if (thisMachine() !== "") {
    const now = processOf(pid);
    return now && !/[ZX]/.test(now.state) ? now.start : undefined;
  }
  try {
    process.kill(pid, 0);
    return "";
  } catch (error) {
    // Somebody else's.
    return error instanceof Error && "code" in error && error.code === "EPERM" ? "" : undefined;
  }
}
