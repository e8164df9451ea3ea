/**
 * Looks over an open image, without changing anything, or repairs one that its last user left dirty; both by the check of
 * inspect.ts. Source: qcow2.txt, "Header" (dirty bit); behaviour of QEMU 7.2.
 */
import { BlockError, ImageError } from "../../../../base/errors.ts";
import { inspectFile } from "./inspect.ts";
import type { CheckResult } from "../features/tools.ts";
import type { Image } from "../metadata/image.ts";

const MAX_WORDS = 100;

/** Checks the image. Takes the metadata lock; the cached state must have been written back. Errors: the file's. */
export async function checkImage(image: Image): Promise<CheckResult> {
  return image.locked(async () => {
    const corruptions: string[] = [];
    const { file, header } = image;
    const fix = { leaks: false, errors: false };
    const say = (text: string): void => {
      if (!text.startsWith("Leaked ") && corruptions.length < MAX_WORDS) corruptions.push(text);
    };
    try {
      const { leaks } = await inspectFile({ file, header, fix, say });
      return { corruptions, leaks };
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      return { corruptions: [...corruptions, error.message], leaks: 0 };
    }
  });
}

/**
 * Makes refcounts and flags what the tables say and clears the dirty bit. Called under the metadata lock, or before anybody
 * else can; nothing may be cached that the file lacks. Errors: the file's, EIO where a question stays open.
 */
export async function repairImage(image: Image): Promise<void> {
  const { file, header } = image;
  const fix = { leaks: true, errors: true };
  const { checkErrors } = await inspectFile({ file, header, fix, say: () => undefined });
  if (checkErrors > 0) throw new BlockError({ code: "EIO", op: "check" });
  for (const cache of [image.l1, image.l2, image.refcountTable, image.refcountBlocks]) cache.clear();
  image.noteRefcountTable();
  image.freeHint = 0;
  image.compressedTail = 0;
  const { clusterSize } = image.geometry;
  image.untouchedFrom = Math.ceil(file.length / clusterSize) * clusterSize;
}
