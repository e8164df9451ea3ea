/**
 * Making folders with those that they lie in.
 */
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/** Whether the folder was made; undefined: what it is to lie in is not there, or has no folders made in it. */
function made(folder: string, mode: number): boolean | undefined {
  try {
    mkdirSync(folder, { mode });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code === "EEXIST" && statSync(folder).isDirectory()) return false;
    throw error;
  }
}

/**
 * Makes a folder, and those above it, that are not there; answers whether it was made now. Node's own way (`recursive`) never ends where a
 * folder that is there has none made in it (/proc): that is an error here, as any other of the system's.
 */
export function makeFolders(folder: string, mode = 0o777): boolean {
  const isMade = made(folder, mode);
  if (isMade !== undefined) return isMade;
  const parent = dirname(folder);
  if (parent !== folder) makeFolders(parent, mode);
  // Another program may have been faster.
  const again = made(folder, mode);
  if (again !== undefined) return again;
  mkdirSync(folder, { mode });
  return true;
}
