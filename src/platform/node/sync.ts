/**
 * Durability of what has a name.
 */
import { open } from "node:fs/promises";
import { blockError, errnoOf } from "../../base/errors.ts";
import { nodeError } from "./errors.ts";

/** Makes a file's content, or a folder's names, durable. Throws BlockError, which names it. */
export async function syncPath(path: string): Promise<void> {
  try {
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    const told = nodeError(error, "sync");
    throw blockError(errnoOf(told), "sync", `'${path}': ${told.message}`);
  }
}
