/**
 * Making a file anew where there may be one already: beside it, so that what was there stays until the new one is whole. A file
 * system without room for both keeps the old one, too, unless the new one plainly fits once that is emptied.
 */
import { BlockError, errnoOf } from "../../base/errors.ts";
import type { HostFiles } from "../../base/host.ts";

/** How a file is replaced. */
export interface Replacing {
  /** What is there is only given up once the new one is durable. Default true. */
  durable?: boolean;
  /** Bytes that the new file takes. Where there is no room for both, and none for it once the old one is emptied, the old one stays. */
  neededBytes?: () => Promise<number | undefined>;
}

/**
 * Has `make` make the file, under the name that it gets: `filename`, or another one beside it, which takes its place then. Throws
 * what `make` throws, with `filename` in its words, and EAGAIN and EBUSY for a file that is in use.
 */
export async function replaceFile<T>(
  files: HostFiles,
  filename: string,
  make: (name: string) => Promise<T>,
  { durable = true, neededBytes }: Replacing = {},
): Promise<T> {
  const draft = await files.draft?.(filename);
  if (!draft) return make(filename);
  try {
    const made = await make(draft.path);
    await draft.publish({ durable });
    return made;
  } catch (error) {
    await draft.discard();
    if (errnoOf(error) !== "ENOSPC") throw named(error, draft.path, filename);
    const needed = await neededBytes?.();
    // Refuses before it empties the file.
    if (needed !== undefined)
      await files.create(filename, { size: 0, exclusive: false, neededBytes: needed });
  }
  return make(filename);
}

/** The error with the name that its user knows. */
function named(error: unknown, path: string, filename: string): unknown {
  if (!(error instanceof BlockError) || !error.message.includes(path)) return error;
  const { code, op, cause, details } = error;
  return new BlockError({ code, op, cause, details, message: error.message.replaceAll(path, filename) });
}
